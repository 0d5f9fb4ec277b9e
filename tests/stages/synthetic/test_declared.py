# SPDX-License-Identifier: Apache-2.0
"""DeclaredSynthetic: every way to declare, the narrower one counting, phrases as evidence only."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, empty
from datapipe.core.roles import Roles
from datapipe.core.source import Source
from datapipe.errors import DeclarationError, SchemaMismatch
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


@given(st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=40))
def test_every_row_is_counted_once(flags):
    data = Dataset.of(pa.table({"synthetic": pa.array(flags, pa.bool_())}))
    finding = found(data)
    counts = finding.details
    assert counts["synthetic"] + counts["human"] + counts["undeclared"] == len(flags)
    assert counts["synthetic"] == flags.count(True)
