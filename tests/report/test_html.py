# SPDX-License-Identifier: Apache-2.0
"""The page of real runs: what it says, what it holds back, and that nothing in it is alive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace

import pyarrow as pa
import pytest

from datapipe import Gate, Pipeline, Stage, Yield, at_most
from datapipe.errors import DeclarationError, ExecutionError
from datapipe.report.html import run_card, write_report
from datapipe.report.markup import tag

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&</td>"


@pytest.fixture
def page(tmp_path, runs):
    def read(run, **options):
        path = write_report(run.store, run.run_id, tmp_path / "report.html", **options)
        return runs.Page(path.read_text("utf-8"))

    return read


def test_the_page_is_whole_and_well_formed(page, cleaned):
    read = page(cleaned)
    assert read.unbalanced == []
    assert read.open == []
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for t, a in read.tags if t == "a"} <= set(ids)


def test_nothing_is_loaded_and_nothing_runs(page, cleaned):
    read = page(cleaned)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {
        t for t, _ in read.tags
    }
    for _, attributes in read.tags:
        assert not [k for k in attributes if k.startswith("on")]
        for key in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            assert re.match(r"data:image/png;base64,|#|$", attributes.get(key, ""))
    policy = next(a["content"] for t, a in read.tags if "http-equiv" in a)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not re.search(r"https?:|//[a-z]+\.|url\(|@import", read.text)


def test_every_figure_has_its_figures_and_words(page, cleaned):
    read = page(cleaned)
    pictures = re.findall(r"<figure.*?</figure>", read.text, re.DOTALL)
    assert len(pictures) >= 5
    for picture in pictures:
        assert re.search(r'role="img" aria-label="[^"]{10,}"', picture)
        assert "<details><summary>the figures</summary>" in picture
        assert "<td" in picture
    assert all(a.get("alt") for t, a in read.tags if t == "img")


def test_the_newest_look_counts_and_the_first_is_shown_as_such(page, cleaned):
    read = page(cleaned)
    assert "PASS" in read.said
    banner = re.search(r'<div class="banner.*?</div></div>', read.text)[0]
    assert "30 of 60" not in banner
    assert "earlier looks, superseded: 1" in read.said
    old = re.search(r'<table class="findings old">.*?</table>', read.text)[0]
    assert "30 of 60 rows are odd" in old
    assert "looked at again in step 1" in old


def test_models_privacy_classes_and_confusion_are_there(page, cleaned):
    read = page(cleaned)
    assert "accuracy of small" in read.said
    assert "ε ≤ 0.6" in read.said
    assert "polyline" in read.text
    assert "given against suggested label of 30 flagged rows" in read.said
    assert read.count("rect", "was") == 3
    assert read.count("img") == 18


def test_a_closed_gate_is_red_and_what_never_ran_is_told(page, closed):
    read = page(closed)
    assert "FAIL" in read.said
    assert "The gate is closed: no row passed it." in read.said
    assert "breaks at most 0.2" in read.said
    assert read.count("g", "closed") == 1
    assert read.count("g", "unrun") == 1
    assert "it was planned and did not run: the gate closed before it" in read.said


def test_text_is_shown_unless_rows_belong_to_persons(page, closed, tmp_path, runs):
    assert "text 59" in page(closed).said
    table = runs.rows(word="secret").append_column("who", pa.array(["a", "b"] * 30))
    pipeline = Pipeline("people", [runs.Odd(on_finding="note")])
    run = runs.finish(pipeline, table, tmp_path / "s", label="label", text="body", subject="who")
    read = page(run)
    assert "row 1:59" in read.said
    assert "secret" not in read.text
    cards = "".join(re.findall(r'<div class="gallery">.*?<h', read.text, re.DOTALL))
    assert cards
    assert "class 2" not in cards
    assert "even" not in cards


def test_hostile_names_labels_and_reasons_are_inert(page, tmp_path, closed, runs):
    harmless = page(closed)
    table = pa.table(
        {
            "number": list(range(60)),
            EVIL: [EVIL + str(i % 3) for i in range(60)],
            "body": [f"{EVIL} {i}" for i in range(60)],
        }
    )
    stages = [
        runs.Odd(reason=EVIL, on_finding="note"),
        Gate({"labels.*": at_most(0.2)}),
        runs.Train(EVIL),
    ]
    run = runs.finish(Pipeline(EVIL, stages), table, tmp_path / "s", label=EVIL, text="body")
    read = page(run)
    assert EVIL in read.said.replace("\u2026", "")
    assert {t for t, _ in read.tags} <= {t for t, _ in harmless.tags}
    assert read.unbalanced == []
    names = {k for _, a in read.tags for k in a}
    assert names <= {k for _, a in harmless.tags for k in a}


def test_a_model_and_dropped_rows_with_hostile_names_are_inert(page, tmp_path, runs):
    stages = [runs.Odd(reason=EVIL), runs.Train(EVIL)]
    run = runs.finish(
        Pipeline("p", stages), runs.rows(pixels=16), tmp_path / "s", label="label", image="image"
    )
    read = page(run)
    assert read.count("script") == 0
    assert not [a for _, a in read.tags if "onerror" in a]
    assert read.unbalanced == []


def test_a_run_without_labels_images_or_findings(page, tmp_path, runs):
    @dataclass(frozen=True)
    class Nothing(Stage):
        name = "test.nothing"

        def run(self, data, context):
            return Yield()

    run = Pipeline("bare", [Nothing()]).run(pa.table({"a": [1, 2]}), seed=1, store=tmp_path / "s")
    read = page(run)
    assert "NOT EVALUATED" in read.said
    assert "No step of this pipeline looks for anything" in read.said
    assert "no step of the family looked at labels that are wrong" in read.said
    assert "Rows worth a look" not in read.said


def test_a_run_that_failed_says_so(page, tmp_path, runs):
    @dataclass(frozen=True)
    class Breaks(Stage):
        name = "test.breaks"

        def run(self, data, context):
            raise ValueError(EVIL)

    with pytest.raises(ExecutionError):
        runs.finish(Pipeline("broken", [runs.Odd(), Breaks()]), runs.rows(), tmp_path / "s")
    read = page(SimpleNamespace(store=tmp_path / "s", run_id=""))
    assert "NOT EVALUATED" in read.said
    assert "The run is failed with DP-EXEC-" in read.said
    assert "it was planned and did not run: the run is failed" in read.said


def test_a_run_without_rows(page, tmp_path, runs):
    empty = runs.rows().slice(0, 0)
    run = runs.finish(
        Pipeline("empty", [runs.Odd(on_finding="note")]), empty, tmp_path / "s", label="label"
    )
    read = page(run)
    assert read.unbalanced == []
    assert "rows left of 0 read" in read.said


def test_the_page_stays_small_however_many_rows(page, tmp_path, runs):
    table = runs.rows(40_000, word="word " * 60)
    run = runs.finish(
        Pipeline("many", [runs.Odd()]), table, tmp_path / "s", label="label", text="body"
    )
    assert len(page(run).text) < 150_000


def test_the_page_stays_small_however_many_pictures(page, tmp_path, runs):
    kinds = [runs.Odd(kind=f"labels.k{i}", on_finding="note") for i in range(6)]
    run = runs.finish(
        Pipeline("big", kinds), runs.rows(pixels=64 * 64), tmp_path / "s", image="image"
    )
    read = page(run)
    assert 20 <= read.count("img") < 6 * 18
    assert len(read.text) < 300_000


def test_reasons_that_name_rows_are_counted_together(page, tmp_path, runs):
    stages = [runs.Odd(reason="copy of 1:20"), runs.Odd(on_finding="note")]
    run = runs.finish(Pipeline("p", stages), runs.rows(), tmp_path / "s", label="label")
    read = page(run)
    assert "labels.issues: copy of …" in read.said
    assert "beside 1:20" in read.said


def test_the_same_store_gives_the_same_bytes(page, cleaned):
    assert page(cleaned).text == page(cleaned).text


def test_extra_markup_comes_after_the_tiles(page, cleaned):
    said = page(cleaned, extra=tag("h2", "planted & found")).said
    assert said.index("rows left of") < said.index("planted & found") < said.index("Lineage")


def test_runs_are_named_by_their_first_characters(tmp_path, cleaned):
    path = write_report(cleaned.store, cleaned.run_id[:6], tmp_path / "r.html")
    assert cleaned.run_id in path.read_text()
    with pytest.raises(DeclarationError, match="has no run 'zzz'"):
        write_report(cleaned.store, "zzz", tmp_path / "r.html")


def test_a_place_that_cannot_be_written_is_named(tmp_path, cleaned):
    with pytest.raises(ExecutionError, match="cannot be written to"):
        write_report(cleaned.store, "", tmp_path / "nowhere" / "r.html")


def test_the_notebook_form_tells_verdict_findings_and_steps(closed, runs):
    read = runs.Page(closed._repr_html_())
    assert read.unbalanced == []
    assert read.count("span", "fail") >= 2
    assert "labels.odd" in read.said
    assert read.said == runs.Page(run_card(closed)).said


def test_on_a_narrow_screen_a_finding_is_a_block_and_figures_keep_their_size(page, cleaned):
    narrow = page(cleaned).text.partition("@media screen and (max-width:640px)")[2]
    assert ".findings td{display:block}" in narrow
    assert "svg{max-width:none}" in narrow
