# SPDX-License-Identifier: Apache-2.0
"""A limit that nothing in the pipeline can meet is told before a row is read, and no other is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import polars as pl
import pyarrow as pa
import pytest

from datapipe.core.finding import Finding
from datapipe.core.function import stage
from datapipe.core.gate import Gate, at_most
from datapipe.core.pipeline import Pipeline
from datapipe.core.stage import RowStage, Stage, Yield
from datapipe.errors import DeclarationError, GateClosed

TABLE = pa.table({"y": [1, 2]})


@dataclass(frozen=True)
class Look(Stage):
    name: ClassVar[str] = "tests.look"
    raises_findings: ClassVar[tuple[str, ...]] = ("poisoning.flips", "labels.noise")

    def run(self, data, context) -> Yield:
        return self.not_evaluated("it is a test")


class Rules(Look):
    name = "tests.rules"
    raises_findings = ("validate.*",)


class Undeclared(Stage):
    name = "tests.undeclared"


class Short(RowStage):
    name = "tests.short"

    def set_aside(self, roles, types):
        return {"small": pl.col("y") < 0}


@stage("tests.function")
def function(frame):
    return frame


def told(*stages) -> tuple[str, ...]:
    with pytest.raises(DeclarationError) as refused:
        Pipeline("p", stages).plan(TABLE)
    return refused.value.problems


def limits(*kinds, optional=False) -> Gate:
    return Gate({kind: at_most(0.01, optional=optional) for kind in kinds})


@pytest.mark.parametrize(
    ("pattern", "close"),
    [
        ("poisonning.*", "did you mean 'poisoning.*'"),
        ("poisoning.flip", "did you mean 'poisoning.flips'"),
        ("label.noise", "did you mean 'labels.noise'"),
        ("Labels.*", "did you mean 'labels.*'"),
    ],
)
def test_a_misspelt_kind_is_told_with_the_closest(pattern, close):
    (said,) = told(Look(), Short(), limits(pattern))
    assert said.startswith(f"gate: no stage before it raises {pattern!r}; {close}")


def test_every_one_is_told_at_once_and_nothing_is_written(tmp_path):
    assert len(told(Look(), limits("labels.nose", "poison.*", "labels.*"))) == 2
    with pytest.raises(DeclarationError, match=r"raises 'labels\.nose'"):
        Pipeline("p", [Look(), limits("labels.nose")]).run(TABLE, seed=1, store=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_what_only_comes_later_is_told():
    said = told(limits("labels.noise"), Look())
    assert said == ("gate: 'labels.noise' is raised by tests.look, which comes after it",)


@pytest.mark.parametrize(
    "stages",
    [
        [Look(), limits("labels.noise", "poison*", "*.flips", "[pl]*", "*")],
        [Look(), limits("labels.noise"), limits("gate")],  # what a gate said, a later one may read
        [[Look(), limits("labels.noise")]],
        [Rules(), limits("validate.values_not_null.age", "validate.*", "val*.age", "*.age")],
        [function(), limits("a.b")],  # a function may raise what it likes
        [Look(), Undeclared(), limits("a.b")],
        [[Look(), Undeclared()], limits("a.b")],
        [Look(), limits("a.b", optional=True)],
    ],
)
def test_what_may_be_met_is_not_told(stages):
    Pipeline("p", stages).plan(TABLE)


@pytest.mark.parametrize(
    "stages",
    [[function(), limits("a.b")], [Look(), limits("synthetic.*")], [Look(), limits("a")]],
)
def test_a_look_that_nobody_takes_closes_the_gate(stages, tmp_path):
    with pytest.raises(GateClosed, match="not evaluated"):
        Pipeline("p", stages).run(TABLE, seed=1, store=tmp_path)
    with pytest.raises(GateClosed, match="not evaluated"):
        Pipeline("p", stages[1:]).run(TABLE, seed=1, store=tmp_path)


def test_an_optional_limit_that_met_nothing_is_named(context):
    fine = Finding.not_evaluated("labels.noise", "it is a test")
    gate = limits("labels.*", "poisonning.*", optional=True)
    (said,) = gate.run(None, replace(context, findings=[fine])).findings
    assert said.says == "1 finding keeps to 2 limits; no finding met 'poisonning.*' (optional)"
