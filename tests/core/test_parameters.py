# SPDX-License-Identifier: Apache-2.0
"""Parameters are held against what their types declare, for every stage of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import pytest

from datapipe.core.parameters import (
    Count,
    OpenShare,
    Positive,
    PositiveInt,
    PositiveShare,
    Range,
    Share,
    hints_of,
    problems,
    spelled,
)
from datapipe.core.pipeline import Pipeline
from datapipe.core.stage import Stage
from datapipe.errors import DeclarationError
from datapipe.stages import CATALOGUE, find

NAN, INF = float("nan"), float("inf")


class Speaks(Protocol):
    def speak(self) -> None: ...


@dataclass(frozen=True)
class Everything(Stage):
    name: ClassVar[str] = "test.everything"
    whole: int = 0
    number: float = 0.0
    text: str = ""
    yes: bool = False
    count: Count = 0
    some: PositiveInt = 1
    positive: Positive = 1.0
    share: Share = 0.0
    part: PositiveShare = 1.0
    chance: OpenShare = 0.5
    few: Annotated[int, Range(2, 8)] = 2
    maybe: Share | None = None
    choice: Literal["a", "b", ""] = "a"
    only: Literal["int8"] = "int8"
    names: tuple[str, ...] = ()
    pair: tuple[str, float] = ("a", 1.0)
    choices: tuple[Literal["a", "b"], ...] = ()
    path: str | PathLike[str] = ""
    several: str | Sequence[str] = ()
    table: Mapping[str, int] | None = None
    call: Callable[[int], int] | None = None
    anything: Any = None
    speaks: Speaks | None = None


FITS = [
    ("whole", [-1, np.int64(3), 10**30]),
    ("number", [1, -2.5, np.float32(1), INF]),
    ("text", ["x"]),
    ("yes", [True]),
    ("count", [0, 7]),
    ("some", [1]),
    ("positive", [1e-300, INF]),
    ("share", [0, 0.5, 1, 1.0]),
    ("part", [1e-9, 1]),
    ("chance", [1e-9, 0.999]),
    ("few", [2, 8]),
    ("maybe", [None, 0.0, 1]),
    ("choice", ["b", ""]),
    ("names", [(), ("a", "b")]),
    ("pair", [("b", 2)]),
    ("choices", [("b", "a")]),
    ("path", [Path(), "x"]),
    ("several", ["x", ["x"], ("x",)]),
    ("table", [{}, {"a": 1}]),
    ("call", [abs]),
    ("anything", [object()]),
    ("speaks", [object()]),  # a protocol cannot be asked for
]
REFUSED = [
    ("whole", 1.0, "must be a whole number"),
    ("whole", True, "must be a whole number"),
    ("number", "0.5", "must be a number"),
    ("number", NAN, "must be a number"),
    ("number", Decimal(1), "must be a number"),
    ("number", True, "must be a number"),
    ("text", b"x", "must be a text"),
    ("yes", 1, "must be True or False"),
    ("count", -1, "must be at least 0"),
    ("some", 0, "must be at least 1"),
    ("positive", 0.0, "must be above 0"),
    ("share", 1.0001, "must lie in [0, 1]"),
    ("part", 0, "must lie in (0, 1]"),
    ("chance", 1, "must lie in (0, 1)"),
    ("chance", 0.0, "must lie in (0, 1)"),
    ("few", 9, "must lie in [2, 8]"),
    ("maybe", 2.0, "must lie in [0, 1]"),
    ("maybe", "", "must be a number"),
    ("choice", "c", "is none of a, b, ''"),
    ("choice", ["a"], "is none of a, b, ''"),
    ("only", "int4", "must be int8"),
    ("names", "ab", "must be a tuple"),
    ("names", ["a"], "must be a tuple"),
    ("names", ("a", 1), "holds 1, which must be a text"),
    ("pair", ("a",), "must hold 2 values"),
    ("choices", ("a", "c"), "holds 'c', which is none of a, b"),
    ("path", 1, "must be a text"),
    ("several", 1, "must be a text"),
    ("several", ["a", 1], "must be a text"),
    ("table", [1], "must be of the type Mapping"),
    ("call", 1, "must be callable"),
]


def test_the_defaults_fit() -> None:
    assert Everything().check() == []


@pytest.mark.parametrize(("name", "values"), FITS)
def test_what_fits_is_let_pass(name: str, values: list[Any]) -> None:
    for value in values:
        assert problems(Everything(**{name: value})) == []


@pytest.mark.parametrize(("name", "value", "says"), REFUSED)
def test_what_does_not_fit_is_named(name: str, value: Any, says: str) -> None:
    assert problems(Everything(**{name: value})) == [f"{name}={value!r} {says}"]


def test_every_problem_is_told_at_once() -> None:
    told = Everything(whole="1", share=2.0).check()
    assert told == [
        "test.everything: whole='1' must be a whole number",
        "test.everything: share=2.0 must lie in [0, 1]",
    ]


def test_long_values_are_cut() -> None:
    assert len(problems(Everything(choice="x" * 1000))[0]) < 150


def test_a_type_that_only_a_function_knows_is_not_checked() -> None:
    Local = Annotated[int, Range(0, 1)]  # noqa: N806 - seen by nobody else

    @dataclass(frozen=True)
    class Hidden(Stage):
        a: Local = 5
        b: int = 1

    assert hints_of(Hidden) == {"a": Any, "b": int}
    assert problems(Hidden(b="x")) == ["b='x' must be a whole number"]


def test_types_of_parents_are_read_where_the_parents_stand() -> None:
    @dataclass(frozen=True)
    class Child(Everything):
        more: PositiveInt = 1

    assert problems(Child(share=3, more=0)) == [
        "share=3 must lie in [0, 1]",
        "more=0 must be at least 1",
    ]


def test_types_are_spelled_for_cards() -> None:
    told = {name: spelled(hint) for name, hint in hints_of(Everything).items()}
    assert told["chance"] == "float in (0, 1)"
    assert told["few"] == "int in [2, 8]"
    assert told["some"] == "int at least 1"
    assert told["positive"] == "float above 0"
    assert told["maybe"] == "float in [0, 1] | None"
    assert told["choices"] == "tuple['a' | 'b', ...]"


@pytest.mark.parametrize("key", sorted(CATALOGUE))
def test_no_stage_of_the_catalogue_trips_over_a_wrong_kind(key: str) -> None:
    """Whatever is given, `check` answers in sentences: nothing raises, nothing of it passes."""
    stage = find(key)
    needed = {f.name: "x" for f in fields(stage) if f.default is f.default_factory is MISSING}
    for name, hint in hints_of(stage).items():
        assert hint is not Any or name == "data", f"{name} is not told"
        for odd in (object(), [1], NAN):
            told = stage(**{**needed, name: odd}).check()
            assert told, (name, odd)
            assert all(isinstance(problem, str) for problem in told)


@pytest.mark.parametrize("odd", [object(), ["t", 3], NAN])
@pytest.mark.parametrize("name", ["text", "label", "group", "path"])
def test_the_plan_tells_a_reader_of_a_wrong_kind(name: str, odd: Any) -> None:
    """Roles are asked for in the plan, too, whatever stands in their place."""
    reader = find("ingest.csv")(**{"path": "a.csv", "label": "y", name: odd})
    with pytest.raises(DeclarationError, match=f"ingest.csv: {name}="):
        Pipeline("p", [reader]).plan()
