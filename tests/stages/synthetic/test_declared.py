# SPDX-License-Identifier: Apache-2.0
"""DeclaredSynthetic: every way to declare, the narrower one counting, phrases as evidence only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.ancestry import joined
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, empty
from datapipe.core.roles import Roles
from datapipe.core.source import Source
from datapipe.errors import DeclarationError, SchemaMismatch
from datapipe.manifest.keys import PrivateKey
from datapipe.manifest.manifest import Manifest
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.manifest.statement import Subject
from datapipe.stages import DeclaredSynthetic

CONTEXT = Context(0, Path())


def rows(columns, *sources, **roles):
    """Rows split evenly over the sources."""
    frame = pl.DataFrame(columns)
    n = frame.height
    numbers = [sources[i * len(sources) // n].number if sources else 0 for i in range(n)]
    ids = pl.Series("_row_id", [(s << 40) + i for i, s in enumerate(numbers)], dtype=pl.UInt64)
    return Dataset(frame.with_columns(ids).lazy(), Roles.of(**roles), sources=sources)


def found(data, **parameters):
    return DeclaredSynthetic(**parameters).run(data, CONTEXT).findings[0]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("synthetic", [True, False, None, True], [1, 0, None, 1]),
        ("is_synthetic", [1, 0, 0, None], [1, 0, 0, None]),
        ("ai_generated", ["yes", "no", "no", "yes"], [1, 0, 0, 1]),
        ("machine_generated", ["true", "false", None, "true"], [1, 0, None, 1]),
        ("Generated", ["1", "0", "0", "1"], [1, 0, 0, 1]),
        ("generator", ["gpt-4", "human", None, "Llama-3-8b"], [1, 0, None, 1]),
        ("source_model", ["chatgpt", "human", "people", "google-palm"], [1, 0, 0, 1]),
        ("model", ["claude-3", "human", "unheard of", "opt-2.7b"], [1, 0, None, 1]),
    ],
)
def test_columns_are_found_and_speak_for_their_rows(name, values, expected):
    finding = found(rows({"t": list("abcd"), name: values}))
    assert finding.details["synthetic"] == expected.count(1)
    assert finding.details["human"] == expected.count(0)
    assert finding.details["undeclared"] == expected.count(None)
    assert finding.measure.value == expected.count(1) / 4
    assert finding.measure.low == finding.measure.high
    assert finding.rows["score"].to_list() == [float(e == 1) for e in expected]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("model", ["Golf", "Polo", "Golf", "Passat"]),
        ("generator", ["diesel", "wind", "wind", "solar"]),
        ("synthetic", ["cotton", "nylon", "wool", "silk"]),
    ],
)
def test_columns_that_mean_something_else_declare_nothing(name, values):
    assert found(rows({name: values})).verdict == "not_evaluated"


def test_a_named_column_and_values():
    data = rows({"how": ["bot", "pen", "bot", None]})
    assert found(data, column="how", values=("bot",)).details["synthetic"] == 2
    assert found(data, column="how").details["synthetic"] == 3
    with pytest.raises(SchemaMismatch, match="hwo"):
        found(data, column="hwo")


def test_sources_speak_for_their_rows_and_columns_for_narrower():
    made = Source("made", "m", synthetic=True, generator="gpt-2", number=1)
    real = Source("real", "r", synthetic=False, number=2)
    mute = Source("mute", "u", number=3)
    finding = found(rows({"x": list(range(9))}, made, real, mute))
    assert (finding.details["synthetic"], finding.details["human"]) == (3, 3)
    assert finding.details["undeclared"] == 3
    assert finding.details["generators"] == {"gpt-2": 3}
    assert finding.measure.value == 3 / 9
    flags = [None, None, False, None, None, True, None, True, False]
    finding = found(rows({"synthetic": flags}, made, real, mute))
    assert [bool(s) for s in finding.rows["score"]] == [1, 1, 0, 0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("front", "says"),
    [
        ("annotations_creators:\n- machine-generated", True),
        ("language_creators: [found, machine-generated]", True),
        ("tags:\n- text\n- synthetic", True),
        ("synthetic: true", True),
        ("digitalSourceType: trainedAlgorithmicMedia", True),
        ("annotations_creators:\n- expert-generated", False),
        ("license: mit\npretty_name: synthetic rubber prices", False),
        ("tags:\n- chemistry\nlicense: synthetic", False),
    ],
)
def test_cards(tmp_path, front, says):
    card = tmp_path / "README.md"
    card.write_text(f"---\n{front}\n---\n# Made by people\nNo machine-generated synthetic text.\n")
    finding = found(rows({"x": [1, 2]}), card=card)
    assert (finding.verdict, finding.measure.value == 1) == (
        ("clean", True) if says else ("not_evaluated", False)
    )
    assert not DeclaredSynthetic(card=card).cacheable()


def test_a_card_that_is_missing_is_a_declaration_error(tmp_path):
    with pytest.raises(DeclarationError):
        found(rows({"x": [1]}), card=tmp_path / "none.md")


def test_rows_are_flagged_only_over_the_limit():
    data = rows({"synthetic": [True, False, True, False]})
    assert found(data).verdict == "clean"
    assert found(data).flagged.is_empty()
    over = found(data, at_most=0.4)
    assert over.verdict == "suspect"
    assert over.flagged["row_id"].to_list() == [0, 2]
    assert DeclaredSynthetic(at_most=1.2).check()


def test_nothing_declared_is_not_evaluated():
    for data in (empty(), rows({"x": [1, 2]})):
        finding = found(data)
        assert finding.verdict == "not_evaluated"
        assert (finding.measure.low, finding.measure.high) == (0, 1)


def texts(n, planted):
    bad = "Well, as an AI\nlanguage model I have no opinion."
    return [bad if i < planted else f"a plain sentence number {i}" for i in range(n)]


@pytest.mark.parametrize(("planted", "verdict"), [(0, "clean"), (1, "clean"), (12, "suspect")])
def test_phrases_are_evidence_of_their_own(planted, verdict):
    data = rows({"t": texts(500, planted)}, text="t")
    declared, phrases = DeclaredSynthetic().run(data, CONTEXT).findings
    assert declared.verdict == "not_evaluated"
    assert phrases.verdict == verdict
    assert phrases.measure.value == planted / 500
    assert phrases.measure.low <= planted / 500 <= phrases.measure.high
    assert phrases.flagged.height == (planted if verdict == "suspect" else 0)
    assert phrases.rows.height == 500


ODD = ["", " ", None, "🙂🙃", "\x00\x01", "אני הולך לבית", "我们今天去学校", "x" * 99_999]
OTHERS = [
    "El perro no come la carne porque está enfermo",
    "Der Hund ist in dem Haus der alten Frau",
]


@pytest.mark.parametrize("text", ODD + OTHERS)
def test_texts_that_cannot_hold_an_english_phrase_are_not_cleared(text):
    plain = texts(20, 0)
    mostly = pl.Series("t", [text] * 30 + plain, dtype=pl.String)
    found = DeclaredSynthetic().run(rows({"t": mostly}, text="t"), CONTEXT).findings[1]
    assert found.verdict == "not_evaluated"
    assert (found.details["looked_at"], found.details["not_looked_at"]) == (20, 30)
    few = pl.Series("t", [text] * 10 + plain, dtype=pl.String)
    assert (
        DeclaredSynthetic().run(rows({"t": few}, text="t"), CONTEXT).findings[1].verdict == "clean"
    )
    told = pl.Series("t", [text] * 30 + texts(12, 12), dtype=pl.String)
    found = DeclaredSynthetic().run(rows({"t": told}, text="t"), CONTEXT).findings[1]
    assert found.verdict == "suspect"
    assert found.flagged["row_id"].to_list() == list(range(30, 42))


@given(st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=40))
def test_every_row_is_counted_once(flags):
    data = Dataset.of(pa.table({"synthetic": pa.array(flags, pa.bool_())}))
    finding = found(data)
    counts = finding.details
    assert counts["synthetic"] + counts["human"] + counts["undeclared"] == len(flags)
    assert counts["synthetic"] == flags.count(True)


IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
WAYS = {
    "flag": {"is_synthetic": True},
    "generator": {"generator": "gpt-4"},
    "named": {"source_model": "our-own-7b"},
    "model": {"model": "claude-3"},
    "c2pa": {"digitalSourceType": f"{IPTC}trainedAlgorithmicMedia"},
    "annotation": {"annotations_creators": ["expert-generated", "machine-generated"]},
    "metadata": {"metadata": '{"model": "llama-3-8b", "temperature": 0.7}'},
    "record": {"provenance": {"synthetic": True, "by": "a"}},
}
HUMAN = {
    "is_synthetic": False, "generator": "human", "source_model": "human", "model": "human",
    "digitalSourceType": f"{IPTC}digitalCapture", "annotations_creators": ["expert-generated"],
    "metadata": '{"model": "Golf", "year": 1999}', "provenance": {"synthetic": False, "by": "a"},
}  # fmt: skip


def signed(path, digest, key, *, share=1.0):
    """A statement about a data set, signed."""
    predicate = DatasetPredicate("upstream", declared_synthetic_share=share)
    said = Manifest.about(predicate, Subject("part.parquet", {"sha256": digest}))
    path.write_bytes(said.sign(key).to_bytes())
    return str(path)


def planted(seed):
    """1,000 rows, half of them declared in one of twelve ways, the others human or silent."""
    rng = np.random.default_rng(seed)
    blank = dict.fromkeys(HUMAN)
    rows, truth, numbers = [], [], []
    of_source = {"by source": 2, "by source's generator": 3, "by signed statement": 4}
    ways = [*WAYS, *of_source, "derived"]
    for i in range(1_000):
        way = ways[(i // 2) % 12] if i % 2 else ""
        row = {**blank, "key": f"k{i}", "derived_from": None}
        if way in WAYS:
            row |= WAYS[way]
        elif not way and rng.random() < 0.5:
            row |= {k: HUMAN[k] for k in rng.choice(list(HUMAN), 3, replace=False)}
        rows.append(row)
        truth.append(bool(way))
        numbers.append(of_source.get(way, 1))
    derived = [i for i in range(1_000) if i % 2 and ways[(i // 2) % 12] == "derived"]
    known = [i for i in range(1_000) if truth[i] and i not in set(derived)]
    for place, i in enumerate(derived):  # half from a declared row, half from a derived one
        above = known[place] if place % 2 == 0 else derived[place - 1]
        rows[i]["derived_from"] = f"k{above}"
    return pl.DataFrame(rows, infer_schema_length=None), np.array(truth), numbers


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_twelve_ways_to_declare_a_thousand_rows(tmp_path, seed):
    frame, truth, numbers = planted(seed)
    ids = pl.Series("_row_id", [(s << 40) + i for i, s in enumerate(numbers)], dtype=pl.UInt64)
    key, forger = PrivateKey.new("ed25519"), PrivateKey.new("ed25519")
    (tmp_path / "key.pem").write_text(key.public_key.to_pem())
    sources = (
        Source("plain", "p", number=1, digest="sha256:" + "1" * 64),
        Source("made", "m", number=2, synthetic=True),
        Source("named", "n", number=3, generator="gpt-2"),
        Source("attested", "a", number=4, digest="sha256:" + "a" * 64),
    )
    data = Dataset(frame.with_columns(ids).lazy(), Roles.of(id="key"), sources=sources)
    good = signed(tmp_path / "good.json", "a" * 64, key)
    forged = signed(tmp_path / "forged.json", "1" * 64, forger)
    parameters = {"attestations": (good, forged), "trusted": str(tmp_path / "key.pem")}
    finding = found(data, **parameters)
    said = finding.rows["score"].to_numpy() == 1
    assert (said == truth).all(), np.flatnonzero(said != truth)[:10]
    assert len(finding.details["statements_not_trusted"]) == 1
    nobody = found(data, attestations=(good, forged))
    assert len(nobody.details["statements_not_trusted"]) == 2
    lost = truth & (nobody.rows["score"].to_numpy() != 1)
    assert lost.sum() >= 40


def test_statements_that_were_changed_are_not_trusted(tmp_path):
    key = PrivateKey.new("ed25519")
    (tmp_path / "key.pem").write_text(key.public_key.to_pem())
    source = Source("s", "s", number=1, digest="sha256:" + "b" * 64)
    data = rows({"x": [1, 2]}, source)
    path = tmp_path / "said.json"
    signed(path, "b" * 64, key, share=0.0)
    parameters = {"attestations": str(path), "trusted": str(tmp_path / "key.pem")}
    assert found(data, **parameters).details["human"] == 2
    whole = path.read_text()
    for broken in ("", "{}", whole[:-40], whole.replace('"sig":"', '"sig":"AAAA')):
        path.write_text(broken)
        finding = found(data, **parameters)
        assert finding.verdict == "not_evaluated"
        assert len(finding.details["statements_not_trusted"]) == 1
    signed(path, "b" * 64, key, share=0.4)
    assert found(data, **parameters).details["undeclared"] == 2


def test_a_row_joined_with_a_synthetic_one_is_synthetic():
    texts = rows({"k": [1, 2, 3]}, Source("people", "a", number=1, synthetic=False))
    pairs = rows(
        {"k": [1, 2], "note": ["x", "y"]},
        Source("made", "b", number=2, generator="some-model"),
        Source("notes", "c", number=3, synthetic=False),
    )
    both = joined(texts.scan(row_id=True), pairs.scan(row_id=True), on="k", how="left")
    finding = found(Dataset(both, sources=(*texts.sources, *pairs.sources)))
    assert finding.details["synthetic"] == 1
    assert finding.details["human"] == 2
    scores = dict(finding.rows.select("row_id", "score").iter_rows())
    assert scores == {(1 << 40): 1.0, (1 << 40) + 1: 0.0, (1 << 40) + 2: 0.0}
