# SPDX-License-Identifier: Apache-2.0
"""SyntheticScore: ranks, bounds false positives, and withholds what it did not earn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, empty
from datapipe.core.roles import Roles
from datapipe.errors import DeclarationError, Malformed
from datapipe.measure.detection import auroc
from datapipe.stages import SyntheticScore
from datapipe.stages.synthetic import score
from datapipe.stages.synthetic._calibration import chances, conformal
from datapipe.stages.synthetic._families import families, family_scores, heard
from datapipe.stages.synthetic._ngrams import coded
from datapipe.stages.synthetic._style import style, window
from datapipe.stages.synthetic._views import Views

WORDS = np.array([a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "st", "ring")])


def text_of(rng, *, machine, n=100):
    use = np.arange(1, WORDS.size + 1) ** (-0.7 if machine else -1.0)
    words = rng.choice(WORDS, n, p=use / use.sum()).astype(object)
    words[:: 17 if machine else 9] += "."
    words[3 :: 7 if machine else 19] += ","
    return " ".join(words).capitalize()


def world(seed, *, share=0.4, n=120, people=120):
    rng = np.random.default_rng(seed)
    hidden = rng.permutation(np.arange(n) < round(share * n))
    texts = [text_of(rng, machine=h) for h in hidden]
    reference = Dataset.of(pa.table({"t": [text_of(rng, machine=False) for _ in range(people)]}))
    return Dataset.of(pa.table({"t": texts}), Roles.of(text="t")), reference, hidden


def judged(data, reference, **parameters):
    context = Context(3, Path(), reference=reference)
    return SyntheticScore(**parameters).run(data, context).findings[0]


def test_without_a_machine_row_it_ranks_and_bounds():
    data, reference, hidden = world(0)
    found = judged(data, reference)
    assert found.verdict == "suspect"
    assert auroc(hidden, found.rows["score"].to_numpy()).value > 0.95
    p_values = found.rows["p_value"].to_numpy()
    assert (p_values[~hidden] <= 0.01).mean() <= 0.05
    assert (p_values[hidden] <= 0.01).mean() > 0.4
    assert found.rows["score"].is_between(0, 1).all()
    assert abs(found.rows["score"].mean() - 0.4) < 0.25


def test_people_alone_raise_no_alarm():
    for seed in range(4):
        data, reference, _ = world(seed, share=0.0)
        assert judged(data, reference).verdict == "clean"


def test_parts_of_the_rows_are_judged_apart_and_told_together(monkeypatch):
    data, reference, hidden = world(6, n=200)
    held = []
    whole = score.views

    def counted(frame, *args, **named):
        held.append(frame.height)
        return whole(frame, *args, **named)

    monkeypatch.setattr(score, "PART_ROWS", 70)
    monkeypatch.setattr(score, "views", counted)
    found = judged(data, reference)
    assert held == [120 + 67, 120 + 66, 120 + 67]
    assert found.verdict == "suspect"
    assert found.rows["row_id"].to_list() == list(range(200))
    assert auroc(hidden, found.rows["score"].to_numpy()).value > 0.9
    assert (found.rows["p_value"].to_numpy()[~hidden] <= 0.01).mean() <= 0.05
    few = Dataset.of(pl.concat([data.frame(["t"]).head(130), pl.DataFrame({"t": ["short"] * 70})]),
                     Roles.of(text="t"))  # fmt: skip
    part = judged(few, reference)
    assert part.verdict == "suspect"
    assert part.details["looked_at"] == 130
    assert judged(data, None).verdict == "not_evaluated"


def test_without_a_reference_no_verdict_whatever_else_is_there(tmp_path):
    data, _, hidden = world(1)
    found = judged(data, None)
    assert found.verdict == "not_evaluated"
    assert found.rows is None
    rng = np.random.default_rng(5)
    anchors = {"t": [text_of(rng, machine=i % 2 == 0) for i in range(160)]}
    anchors["source_model"] = ["gpt-2", "human"] * 80
    pl.DataFrame(anchors).write_parquet(tmp_path / "a.parquet")
    ranked = judged(data, None, anchors=tmp_path / "a.parquet")
    assert ranked.verdict == "not_evaluated"
    assert ranked.rows["p_value"].null_count() == ranked.rows.height
    assert auroc(hidden, ranked.rows["score"].to_numpy()).value > 0.9
    assert (ranked.measure.low, ranked.measure.high) == (0, 1)


@pytest.mark.parametrize(
    ("people", "why"), [(40, "40 usable reference rows"), (80, "cannot bound")]
)
def test_a_small_reference_gives_no_verdict(people, why):
    data, reference, _ = world(2, people=people)
    found = judged(data, reference)
    assert found.verdict == "not_evaluated"
    assert why in found.says


def test_a_reference_of_another_language_is_too_far():
    data, reference, _ = world(3)
    other = reference.frame().with_columns(pl.col("t").str.replace_all("[aeiou]", "ö"))
    found = judged(data, Dataset.of(other))
    assert found.verdict == "not_evaluated"
    assert "too far" in found.says
    assert found.rows["p_value"].null_count() == found.rows.height


AWKWARD = ["", " ", "🙂🙃" * 80, "נכון " * 80, "\x00\x01\x02" * 90, "a" * 200_000, "x " * 60]


def test_bad_rows_get_no_verdict_they_did_not_earn():
    data, reference, _ = world(4)
    mixed = pl.DataFrame({"t": [*data.frame()["t"], *AWKWARD, None, "word " * 100_000]})
    found = judged(Dataset.of(mixed, Roles.of(text="t")), reference)
    assert found.verdict == "suspect"
    odd = found.rows.filter(pl.col("row_id") >= 120)
    assert not odd.filter(pl.col("row_id") != 128)["flagged"].any()
    hebrew = odd.filter(pl.col("row_id") == 123)
    assert hebrew["p_value"].null_count() == hebrew.height
    for text in AWKWARD:
        alone = Dataset.of(pl.DataFrame({"t": [text] * 50}), Roles.of(text="t"))
        assert judged(alone, reference).verdict == "not_evaluated"
    assert judged(empty(), reference).verdict == "not_evaluated"


def test_short_texts_are_not_judged():
    data, reference, _ = world(5)
    short = pl.concat([data.frame(), pl.DataFrame({"t": ["ten words " * 5] * 7})])
    found = judged(Dataset.of(short, Roles.of(text="t")), reference)
    assert found.rows.height == 120
    assert found.details["not_looked_at"] == 7


def length_of_words(texts):
    return texts.str.len_chars() / (texts.str.count_matches(" ") + 1)


def test_a_scorer_of_ones_own_plugs_in():
    data, reference, hidden = world(6)
    rng = np.random.default_rng(0)
    mine = Dataset.of(
        data.frame().with_columns(lm=pl.Series(hidden * 2.0 + rng.normal(size=120))),
        Roles.of(text="t"),
    )
    people = Dataset.of(reference.frame().with_columns(lm=pl.Series(rng.normal(size=120))))
    found = judged(mine, people, scorer="lm")
    assert auroc(hidden, found.rows["score"].to_numpy()).value > 0.95
    with pytest.raises(DeclarationError):
        judged(data, reference, scorer="no.such.module:scorer")
    with pytest.raises(Malformed):
        judged(data, reference, scorer="builtins:len")
    assert SyntheticScore(scorer=length_of_words).scorer.endswith(":length_of_words")
    assert SyntheticScore(scorer=lambda x: x).check()


def test_tables_are_scored():
    rng = np.random.default_rng(0)
    hidden = np.arange(200) < 80
    x = rng.normal(size=(200, 4))
    x[hidden] = x[hidden] * 0.2  # machines stay in the middle
    people = pl.DataFrame(rng.normal(size=(150, 4)), schema=list("abcd"))
    found = judged(Dataset.of(pl.DataFrame(x, schema=list("abcd"))), Dataset.of(people))
    assert auroc(hidden, found.rows["score"].to_numpy()).value > 0.85
    null = pl.DataFrame(rng.normal(size=(200, 4)), schema=list("abcd"))
    assert judged(Dataset.of(null), Dataset.of(people)).verdict == "clean"


def test_wrapping_and_quotes_change_no_feature():
    rng = np.random.default_rng(1)
    plain = pl.Series([text_of(rng, machine=False).replace("bun", '"bun"') for _ in range(9)])
    wrapped = plain.str.replace_all(" ", "\n ").str.replace_all('"', "”")
    assert np.allclose(style(window(plain)), style(window(wrapped)))
    for a, b in zip(coded(window(plain)), coded(window(wrapped)), strict=True):
        assert abs(a - b).max() == 0


def test_chances_rise_with_the_score_and_add_up():
    rng = np.random.default_rng(2)
    human = rng.normal(size=300)
    mixture = np.concatenate([rng.normal(size=350), rng.normal(2.5, size=150)])
    made = chances(human, mixture)
    order = np.argsort(mixture)
    assert (np.diff(made[order]) >= 0).all()
    assert abs(made.mean() - 0.3) < 0.1
    truth = np.arange(500) >= 350
    top = made > 0.7
    assert truth[top].mean() > 0.75
    assert conformal(human, np.array([99.0]))[0] == pytest.approx(1 / 301)


def test_parameters_are_checked():
    assert SyntheticScore(false_alarms=0).check()
    assert SyntheticScore(least_words=0).check()
    assert not SyntheticScore().check()
    assert not SyntheticScore(anchors="a.parquet").cacheable()


def test_real_people_of_every_domain_are_safe_and_machines_show(real_texts):
    areas = []
    for cell in ("fastdetect/writing", "detectrl/xsum", "detectrl/arxiv"):
        rows = real_texts.filter(pl.col("cell") == cell)
        rng = np.random.default_rng(len(cell))
        human = rows.filter(pl.col("label") == 0)["text"].to_list()
        machine = rows.filter(pl.col("label") == 1)["text"].to_list()
        people = [human[i] for i in rng.permutation(len(human))]
        some = [machine[i] for i in rng.permutation(len(machine))[:150]]
        texts = [*people[150:350], *some]
        truth = np.arange(len(texts)) >= len(texts) - 150
        data = Dataset.of(pl.DataFrame({"t": texts}), Roles.of(text="t"))
        found = judged(data, Dataset.of(pl.DataFrame({"t": people[:150]})), least_words=18)
        seen = found.rows["row_id"].to_numpy().astype(int)
        areas.append(auroc(truth[seen], found.rows["score"].to_numpy()).value)
        flagged = (found.rows["p_value"].fill_null(1.0) <= 0.01).to_numpy()
        assert flagged[~truth[seen]].mean() <= 0.03
        assert judged(data, None).verdict == "not_evaluated"
    assert np.mean(areas) >= 0.83


def labelled(seed=0, n=120):
    """People and two makers who depart from them in different ways, in two places."""
    rng = np.random.default_rng(seed)
    makers = np.repeat(["", "helpful", "plain"], n)
    kind = (makers != "").astype(np.int64)
    values = rng.normal(size=(3 * n, 6))
    values[makers == "helpful", 0] += 4.0
    values[makers == "plain", 2] -= 2.0
    places = pl.Series(np.tile(["here", "there"], 3 * n // 2))
    values[(places == "there").to_numpy(), 1] += 5.0  # a place is no maker
    return values, kind, pl.Series(makers), places


def test_makers_who_depart_in_different_ways_are_apart():
    values, kind, makers, places = labelled()
    found = families(values, kind, makers, places)
    assert (found[kind == 0] == -1).all()
    one, other = (set(found[(makers == m).to_numpy()]) for m in ("helpful", "plain"))
    assert one | other == {0, 1}
    assert one != other
    values[kind == 1, 3:] += 9.0  # now they depart in one way
    assert (families(values, kind, makers, places) == -1).all()
    assert (families(values, kind, pl.Series(["one"] * kind.size), places) == -1).all()


def test_a_family_is_known_where_nobody_labelled():
    values, kind, makers, places = labelled()
    rng = np.random.default_rng(1)
    hidden = np.arange(100) < 50
    asked = rng.normal(size=(100, 6)) + 9.0 * np.eye(6)[1]
    asked[hidden, 0] += 4.0
    rows = Views(
        np.vstack([values, asked]), (), np.ones(460, bool),
        pl.Series(np.arange(460)).cast(pl.String),
    )  # fmt: skip
    kind = np.append(kind, np.full(100, -1))
    place = pl.concat([places, pl.Series([""] * 100)])
    family = np.append(families(values, kind[:360], makers, places), np.full(100, -1))
    told = [family_scores(rows, kind, (family == f).astype(int), place, kind < 0) for f in (0, 1)]
    assert auroc(hidden, heard([rng.normal(size=100)], told)).value > 0.9
    assert min(auroc(hidden, t).value for t in told) < 0.7
    few = family_scores(rows, kind, np.zeros(460, int), place, kind < 0)
    assert not few.any()


def test_two_heaps_are_heard_over_one():
    rng = np.random.default_rng(2)
    truth = np.arange(400) < 200
    heaps, noise = rng.normal(size=400) + 6.0 * truth, rng.normal(size=400)
    assert auroc(truth, heard([noise], [heaps, noise])).value > 0.95
    assert auroc(truth, heard([heaps], [-heaps, noise])).value == 1  # nobody else is asked
    assert np.isfinite(heard([np.zeros(9)], [np.zeros(9)])).all()


CELLS = (
    "fastdetect/xsum", "fastdetect/writing", "detectrl/xsum", "detectrl/writing", "detectrl/arxiv",
)  # fmt: skip


def ranked(asked, known, tmp_path, reference=None):
    """The score of each row asked for, in its order, from labelled rows of other prompts."""
    apart = known.filter(~pl.col("prompt").is_in(asked["prompt"].unique().implode()))
    apart.select("text", "source_model", "domain").write_parquet(tmp_path / "anchors.parquet")
    data = Dataset.of(asked.select("text"), Roles.of(text="text"))
    people = None if reference is None else Dataset.of(reference.select("text"))
    stage = SyntheticScore(anchors=tmp_path / "anchors.parquet", least_words=18)
    found = stage.run(data, Context(1, tmp_path, reference=people)).findings[0]
    assert reference is not None or found.verdict == "not_evaluated"
    assert found.rows.height == asked.height
    return found.rows.sort("row_id")["score"].to_numpy()


@pytest.mark.power
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("people", "least"), [(0, 0.82), (150, 0.83)])
def test_domains_that_nobody_labelled_are_ranked(real_texts, tmp_path, people, least):
    """Leave one domain out, with and without a reference: mean area, cells or domains alike."""
    areas = {}
    for cell in CELLS:
        asked = real_texts.filter(pl.col("cell") == cell)
        human = asked.filter(pl.col("label") == 0)
        held = human[np.random.default_rng(4).permutation(human.height)[:people]]
        own = asked.filter(~pl.col("prompt").is_in(held["prompt"].unique().implode()))
        known = real_texts.filter(pl.col("domain") != asked["domain"][0])
        scores = ranked(own, known, tmp_path, held if people else None)
        areas[cell] = auroc(own["label"].to_numpy() == 1, scores).value
    by_domain = [
        np.mean([a for c, a in areas.items() if c.endswith(d)])
        for d in ("xsum", "writing", "arxiv")
    ]
    assert min(np.mean(by_domain), np.mean(list(areas.values()))) >= least, areas


def recall_at(truth, scores, false_alarms=0.01):
    """The share of positives above all but so many of the negatives."""
    return float((scores[truth] > np.quantile(scores[~truth], 1 - false_alarms)).mean())


@pytest.mark.power
@pytest.mark.timeout(3000)
def test_known_domains_are_ranked_whatever_the_layout(real_texts, tmp_path):
    """Four folds of prompts, all rows together; lines wrapped anew and other quotes are nothing."""
    prompts = real_texts["prompt"].unique().sort()
    dealt = dict(zip(prompts, np.random.default_rng(5).permutation(len(prompts)) % 4, strict=True))
    fold = real_texts["prompt"].replace_strict(dealt, return_dtype=pl.Int64)
    scores = np.empty(real_texts.height)
    for k in range(4):
        asked, known = real_texts.filter(fold == k), real_texts.filter(fold != k)
        scores[(fold == k).to_numpy()] = ranked(asked, known, tmp_path)
    truth, cell = real_texts["label"].to_numpy() == 1, real_texts["cell"].to_numpy()
    by_cell = {c: auroc(truth[cell == c], scores[cell == c]).value for c in CELLS}
    area, recall = auroc(truth, scores).value, recall_at(truth, scores)
    assert area >= 0.95, (area, recall, by_cell)
    assert recall >= 0.45, (area, recall, by_cell)
    wrapped = pl.col("text").str.replace_all(r"(\S+ \S+ \S+) ", "$1\r\n  ")
    quoted = wrapped.str.replace_all('"', "”").str.replace_all("'", "’")
    again = ranked(asked.with_columns(quoted), known, tmp_path)
    here = (fold == k).to_numpy()
    for c in CELLS:
        of = cell[here] == c
        areas = [auroc(truth[here][of], s[of]).value for s in (scores[here], again)]
        assert abs(areas[0] - areas[1]) <= 0.01, (c, areas)


@pytest.mark.power
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("size", [150, 300])
def test_people_of_every_population_are_safe(populations, size, tmp_path):
    """Ten draws each, half of them with machine rows; the populations that lie in the folder."""
    realised, worst = {}, 0.0
    for name, (human, machine) in populations.items():
        hits = asked = 0
        for seed in range(10):
            rng = np.random.default_rng(100 + seed)
            people = human.sample(human.len(), shuffle=True, seed=seed)
            some = machine[rng.permutation(machine.len())[: 60 * (seed % 2)]]
            cut = min(size, people.len() - 100)
            own = people[cut : cut + 200]
            data = Dataset.of(pl.DataFrame({"t": pl.concat([own, some])}), Roles.of(text="t"))
            reference = Dataset.of(pl.DataFrame({"t": people[:cut]}))
            context = Context(seed, tmp_path, reference=reference)
            found = SyntheticScore(least_words=18).run(data, context).findings[0]
            rows = found.rows.filter(pl.col("row_id") < own.len())
            low = int((rows["p_value"].fill_null(1.0) <= 0.01).sum())
            assert found.verdict == "clean" or some.len(), name
            hits, asked, worst = hits + low, asked + rows.height, max(worst, low / rows.height)
        realised[name] = hits / asked
        silent = SyntheticScore(least_words=18).run(data, Context(seed, tmp_path)).findings[0]
        assert silent.verdict == "not_evaluated"
        assert silent.rows is None
    assert len(realised) >= 5
    assert max(realised.values()) <= 0.03, (realised, worst)
