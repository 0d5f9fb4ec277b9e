# SPDX-License-Identifier: Apache-2.0
"""Row stages are expressions, functions become stages, and rows are set aside, never lost."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.context import Context, derived_seed
from datapipe.core.dataset import Dataset
from datapipe.core.function import stage
from datapipe.core.gate import Gate, at_most
from datapipe.core.stage import RowStage, Stage, Yield, first_reason
from datapipe.errors import DeclarationError, SchemaMismatch

ROWS = pl.DataFrame({"t": ["a", "bb", None, "dddd"], "n": [1, 2, 3, 4]})


@dataclass(frozen=True)
class Short(RowStage):
    """Sets short texts aside and counts characters."""

    name: ClassVar[str] = "tests.short"
    least: int = 2

    def set_aside(self, roles, types):
        length = pl.col("t").str.len_chars()
        return {"too short": length < self.least, "very short": length < 1}

    def columns(self, roles, types):
        return {"length": pl.col("t").str.len_chars()}


def test_a_row_stage_sets_aside_with_the_first_reason_and_keeps_nulls(context: Context):
    made = Short().run(Dataset.of(ROWS), context)
    assert made.data.frame()["t"].to_list() == ["bb", None, "dddd"]
    assert made.data.frame()["length"].to_list() == [2, None, 4]
    assert made.set_aside.rows() == [(0, "too short")]


@given(st.lists(st.tuples(st.booleans() | st.none(), st.booleans() | st.none()), max_size=12))
def test_the_first_reason_that_holds(rows):
    frame = pl.DataFrame(rows, schema={"a": pl.Boolean, "b": pl.Boolean}, orient="row")
    told = frame.select(first_reason({"A": pl.col("a"), "B": pl.col("b")})).to_series()
    expected = ["A" if a else "B" if b else None for a, b in rows]
    assert told.to_list() == expected


def test_parameters_are_fields_and_do_not_change():
    assert Short(3).params() == {"least": 3}
    with pytest.raises(FrozenInstanceError):
        Short().least = 3
    with pytest.raises(TypeError):
        Short(leats=3)


def test_a_stage_without_run_says_so(context: Context):
    with pytest.raises(DeclarationError, match=r"Stage has no run\(\)"):
        Stage().run(Dataset.of(ROWS), context)


@stage("tests.big", version="1", needs=("text",))
def big(frame: pl.LazyFrame, *, over: int = 1) -> pl.LazyFrame:
    """Keeps the big ones."""
    return frame.filter(pl.col("n") > over)


def test_a_function_is_a_stage(context: Context):
    made = big(over=2).run(Dataset.of(ROWS), context)
    assert made.data.frame()["n"].to_list() == [3, 4]
    assert made.set_aside.rows() == [(0, "left out by tests.big"), (1, "left out by tests.big")]
    one = big(over=2)
    assert (one.name, one.version, one.needs, one.params()) == (
        "tests.big",
        "1",
        ("text",),
        {"over": 2},
    )
    assert one == big(over=2)
    assert one != big(over=3)
    assert big.__doc__ == "Keeps the big ones."


def test_a_function_without_a_version_is_never_reused():
    assert not stage("tests.x")(lambda frame: frame)().cacheable()
    assert big().cacheable()


def test_a_function_is_not_reused_by_a_parameter_that_only_has_a_name():
    versioned = stage("tests.x", version="1")(lambda frame, by=None: frame)  # noqa: ARG005 - read by name

    def inner() -> int:
        return 1

    assert not any(versioned(by=by).cacheable() for by in (lambda: 1, inner, object(), [object()]))
    assert all(versioned(by=by).cacheable() for by in (None, 1.5, ("a", {"b": b"c"}), len, Path()))
    assert Gate({"labels.*": at_most(0.1)}).cacheable()


def test_every_parameter_of_a_function_is_held_against_it_before_it_runs():
    versioned = stage("tests.x", version="1")(lambda frame, *, n=1: frame)  # noqa: ARG005 - read by name
    assert versioned(n=2).check() == []
    assert versioned(m=2).check() == ["tests.x: got an unexpected keyword argument 'm'"]
    assert versioned(n=pl.Series([1, 2])).check() == [
        "tests.x: n is of type Series, which has no JSON form"
    ]
    assert stage("tests.x")(lambda: None)().check() == ["tests.x: too many positional arguments"]


def test_a_key_that_was_forgotten_is_told():
    with pytest.raises(DeclarationError, match="given no key"):
        stage(lambda frame: frame)  # type: ignore[arg-type]  # the mistake itself


def test_the_code_digest_follows_the_function():
    one = stage("tests.x")(lambda frame: frame)()
    other = stage("tests.x")(lambda frame: frame.head(1))()
    assert one.code_digest() != other.code_digest()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frame: pl.concat([frame, frame]),
        lambda frame: frame.with_columns(pl.col("_row_id") + 100),
    ],
    ids=["repeated", "invented"],
)
def test_a_function_may_not_repeat_or_invent_rows(spoil, context: Context):
    with pytest.raises(SchemaMismatch, match="repeated or invented"):
        stage("tests.spoil")(spoil)().run(Dataset.of(ROWS), context)


def test_a_function_that_loses_the_ids_is_told(context: Context):
    with pytest.raises(SchemaMismatch, match="lose their names"):
        stage("tests.x")(lambda frame: frame.drop("_row_id"))().run(Dataset.of(ROWS), context)


def test_a_function_may_give_nothing_a_yield_or_ask_for_the_context(context: Context):
    seen = []

    def look(frame: pl.LazyFrame, context: Context) -> None:
        seen.append(context.seed)

    assert stage("tests.look")(look)().run(Dataset.of(ROWS), context).data is None
    assert seen == [7]
    given = Yield()
    assert stage("tests.give")(lambda _: given)().run(Dataset.of(ROWS), context) is given


@pytest.mark.parametrize("key", ["big", "", "a.", ".b", "a b.c", "1a.b"])
def test_a_key_has_a_family_and_a_method(key: str):
    with pytest.raises(DeclarationError, match="no stage key"):
        stage(key)


def test_seeds_are_independent_by_name_and_the_same_everywhere(context: Context):
    assert derived_seed(7, "labels") == 3001788221789245909
    assert len({derived_seed(7, str(i)) for i in range(1000)}) == 1000
    one = context.rng("a").random(4)
    assert one.tolist() == context.rng("a").random(4).tolist()
    assert one.tolist() != context.rng("b").random(4).tolist()


def test_asking_for_a_model_that_nobody_trained(context: Context):
    with pytest.raises(DeclarationError, match="trained a model"):
        context.model()
