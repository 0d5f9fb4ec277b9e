# SPDX-License-Identifier: Apache-2.0
"""What the store answers in SQL is what plain Python counts on the same rows, row by row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

from datapipe import Estimate, Finding, Pipeline, RowStage, Stage, Yield
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import scored_rows
from datapipe.core.roles import ORDINAL_BITS, Roles
from datapipe.core.run import Run
from datapipe.core.stage import OnFinding
from datapipe.lineage.store import Lineage
from datapipe.stages import (
    ExactDuplicates,
    ExportQuantized,
    ReadCSV,
    ReadParquet,
    TrainPlain,
    TrainPrivately,
)

HIGHEST = 90
EPSILON, DELTA = 3.0, 1e-4


@dataclass(frozen=True)
class TooBig(RowStage):
    over: int = HIGHEST

    name: ClassVar[str] = "test.too_big"

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"too big": pl.col("a") > self.over}


@dataclass(frozen=True)
class Divisible(Stage):
    """Marks rows whose `b` is a multiple of a number; says that their label should be 0."""

    by: int = 7
    on_finding: OnFinding = "quarantine"

    name: ClassVar[str] = "test.divisible"
    needs: ClassVar[tuple[str, ...]] = ("label",)

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.frame(["b"], row_id=True)
        marked = frame["b"] % self.by == 0
        rows = scored_rows(
            frame["_row_id"],
            marked.cast(pl.Float64),
            flagged=marked,
            reason=f"multiple of {self.by}",
            suggested=pl.Series(["0"] * frame.height),
        )
        measure = Estimate.rate(int(marked.sum()), frame.height)
        told = Finding("test.divisible", "suspect", measure, "multiples", rows=rows)
        return Yield(findings=(told,))


@dataclass(frozen=True)
class World:
    """Three sources, of which nothing of the last survives the first stage."""

    files: tuple[Path, ...]
    store: Path

    def private(self, *, epsilon: float = EPSILON) -> Pipeline:
        """One reader and one private training, for who asks of the budget only."""
        how = {"epochs": 1, "named": "private", "holdout": 0.1}
        trains = TrainPrivately(epsilon=epsilon, delta=DELTA, budget=50.0, **how)
        return Pipeline("private", [ReadParquet(self.files[0], label="y"), TooBig(), trains])

    def chain(self, *, over: int = HIGHEST, epsilon: float = EPSILON) -> Pipeline:
        one, two, three = self.files
        private = TrainPrivately(
            epsilon=epsilon, delta=DELTA, budget=50.0, epochs=2, named="private", holdout=0.1
        )
        readers = [
            ReadParquet(one, label="y", named="one", licence="CC0-1.0", origin="lab"),
            ReadCSV(two, label="y", named="two", licence="CC-BY-4.0"),
            ReadCSV(three, label="y", named="three"),
        ]
        stages = [
            readers,
            TooBig(over=over),
            ExactDuplicates(),
            Divisible(by=11, on_finding="relabel"),
            TrainPlain(epochs=2, holdout=0.25, named="early"),
            Divisible(by=7, on_finding="quarantine"),
            [TrainPlain(epochs=2, named="late", test=str(one)), private],
            ExportQuantized(model="late", formats=("onnx",)),
        ]
        return Pipeline("answers", stages)

    def rows(self) -> list[tuple[int, int, int, str]]:
        """(row id, a, b, label) of every row, by hand."""
        found = []
        frames = [pl.read_parquet(self.files[0]), *map(pl.read_csv, self.files[1:])]
        for number, frame in enumerate(frames, start=1):
            for ordinal, (a, b, y) in enumerate(frame.select("a", "b", "y").rows()):
                found.append(((number << ORDINAL_BITS) + ordinal, a, b, str(y)))
        return found


@dataclass(frozen=True)
class Truth:
    """What should have become of every row, counted without the library."""

    left: dict[int, tuple[str, str]]  # row -> (stage, reason)
    relabelled: set[int]
    early: set[int]  # rows in the data that `early` was given
    late: set[int]


def truth(world: World) -> Truth:
    left: dict[int, tuple[str, str]] = {}
    relabelled, seen, early, late = set(), {}, set(), set()
    for row, a, b, y in world.rows():
        if a > HIGHEST:
            left[row] = ("test.too_big", "too big")
            continue
        if (a, b, y) in seen:
            number, ordinal = divmod(seen[a, b, y], 1 << ORDINAL_BITS)
            left[row] = ("dedup.exact", f"dedup.exact: duplicate of {number}:{ordinal}")
            continue
        seen[a, b, y] = row
        early.add(row)
        if b % 11 == 0 and y != "0":
            relabelled.add(row)
        if b % 7 == 0:
            left[row] = ("test.divisible", "test.divisible: multiple of 7")
        else:
            late.add(row)
    return Truth(left, relabelled, early, late)


def made(folder: Path) -> World:
    rng = np.random.default_rng(5)

    def table(rows: int, low: int, high: int) -> pl.DataFrame:
        a, b = rng.integers(low, high, rows), rng.integers(0, 40, rows)
        return pl.DataFrame({"a": a, "b": b, "y": (a > high // 2).astype(np.int64)})

    paths = tuple(folder / name for name in ("one.parquet", "two.csv", "three.csv"))
    table(400, 0, 100).write_parquet(paths[0])
    table(250, 0, 96).write_csv(paths[1])
    table(20, 91, 99).write_csv(paths[2])
    return World(paths, folder / "store")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return made(tmp_path_factory.mktemp("answers"))


@pytest.fixture(scope="module")
def run(world: World) -> Run:
    return world.chain().run(seed=7, store=world.store)


@pytest.fixture(scope="module")
def expected(world: World) -> Truth:
    return truth(world)


def held_out(run: Run, model: str) -> set[int]:
    return set(pl.read_parquet(run.artifacts[f"{model}.heldout"].path)["row_id"].to_list())


def trained(run: Run, expected: Truth) -> dict[str, set[int]]:
    """Model name to the rows that should have trained it."""
    return {
        "early": expected.early - held_out(run, "early"),
        "late": expected.late,
        "private": expected.late - held_out(run, "private"),
    }


def model_id(run: Run, name: str) -> str:
    return str(run.artifacts[name].digest)


def test_the_world_holds_every_case(expected: Truth):
    stages = Counter(stage for stage, _ in expected.left.values())
    assert len(stages) == 3
    assert min(stages.values()) > 10
    assert len(expected.relabelled) > 10
    assert {row >> ORDINAL_BITS for row in expected.late} == {1, 2}


def test_dropped_rows_are_those_that_left_with_stage_and_reason(run: Run, expected: Truth):
    told = run.sql("select row_id, stage, reason from dropped_rows where run_id = $r", r=run.run_id)
    assert {row: (stage, reason) for row, stage, reason in told.rows()} == expected.left
    assert told.height == len(expected.left)
    names = run.sql("select distinct source_no, source from dropped_rows order by 1")["source"]
    assert names.to_list() == ["one", "two", "three"]
    assert set(run.data.row_ids.to_list()) == expected.late


def test_why_names_stage_and_reason_of_every_row_that_left(run: Run, world: World, expected: Truth):
    lineage = Lineage(world.store)
    for row in sorted(expected.left)[::3]:
        (dropped,) = lineage.why(row)["dropped"]
        assert (dropped["stage"], dropped["reason"]) == expected.left[row]
        reached = {m["name"] for m in lineage.why(row)["models"]}
        assert reached == {n for n, rows in trained(run, expected).items() if row in rows}


def test_label_history_and_row_history_tell_what_was_done(run: Run, expected: Truth):
    changed = run.sql("select row_id from label_history where run_id = $r", r=run.run_id)
    assert sorted(changed["row_id"].to_list()) == sorted(expected.relabelled)
    told = run.sql("select row_id, stage, event from row_history where run_id = $r", r=run.run_id)
    events = Counter((stage, event) for _, stage, event in told.rows())
    gone = Counter(stage for stage, _ in expected.left.values())
    assert {s: events[s, "set aside"] for s in gone} == gone
    assert events["test.divisible", "relabelled"] == len(expected.relabelled)
    assert set(told.filter(event="set aside")["row_id"]) == set(expected.left)


def test_model_rows_are_the_rows_that_trained(run: Run, expected: Truth):
    assert 0.2 < len(held_out(run, "early")) / len(expected.early) < 0.3
    for name, rows in trained(run, expected).items():
        told = run.sql("select row_id from model_rows where model_id = $m", m=model_id(run, name))
        assert told.height == len(rows), name
        assert set(told["row_id"].to_list()) == rows, name


def test_model_sources_count_the_rows_of_each_source(run: Run, expected: Truth):
    for name, rows in trained(run, expected).items():
        told = run.sql(
            "select source_no, rows, licence, origin from model_sources"
            " where model_id = $m and rows > 0 order by 1",
            m=model_id(run, name),
        )
        counted = Counter(row >> ORDINAL_BITS for row in rows)
        assert dict(told.select("source_no", "rows").rows()) == counted, name
        assert told["licence"].to_list() == ["CC0-1.0", "CC-BY-4.0"]
        assert told["origin"].to_list()[0] == "lab"


def test_source_impact_names_everything_that_rows_reached(run: Run, world: World, expected: Truth):
    lineage = Lineage(world.store)
    reached: set[tuple[int, str, str]] = set()
    for digest in set(run.sql("select digest from datasets")["digest"]):
        rows = pl.read_parquet(lineage.object_path(digest))["_row_id"]
        reached |= {(n, "dataset", digest) for n in set((rows // (1 << ORDINAL_BITS)).to_list())}
    for name, rows in trained(run, expected).items():
        reached |= {(row >> ORDINAL_BITS, "model", model_id(run, name)) for row in rows}
    export = run.artifacts["late.int8.onnx"].digest
    reached |= {(row >> ORDINAL_BITS, "export", export) for row in expected.late}
    assert set(run.sql("select source_no, kind, digest from source_impact").rows()) == reached


def test_budget_is_spent_once_for_each_training_and_not_for_a_reused_one(tmp_path: Path):
    world = made(tmp_path)

    def spent(chain: Pipeline, seed: int) -> tuple[int, float, Run]:
        run = chain.run(seed=seed, store=world.store)
        told = run.sql("select events, epsilon_sum_bound, delta from privacy_spend")
        assert told.height == 1
        assert told["delta"][0] == pytest.approx(told["events"][0] * DELTA)
        return told["events"][0], told["epsilon_sum_bound"][0], run

    events, first, run = spent(world.private(), 7)
    charged = run.artifacts["private"].facts["epsilon"]
    assert (events, first) == (1, pytest.approx(charged))
    assert 0 < first <= EPSILON
    assert spent(world.private(), 7)[:2] == (
        1,
        first,
    )  # reused: the same model, nothing new is told
    events, second, _ = spent(world.private(), 8)
    assert (events, second) == (2, pytest.approx(2 * first, rel=0.01))
    events, third, _ = spent(world.private(epsilon=1.0), 8)
    assert events == 3
    assert second < third <= second + 1.0


def test_only_what_depends_on_a_changed_parameter_runs_again(run: Run, world: World):
    same = world.chain().run(seed=7, store=world.store)
    assert [step.reused for step in same.steps] == [True] * len(same.steps)
    pipeline = world.chain()
    stages = [list(group) for group in pipeline.stages]
    stages[4] = [replace(stages[4][0], epochs=3)]  # the model `early`, on which nothing rests
    ran = [
        (step.stage, index)
        for index, step in enumerate(
            Pipeline("answers", stages).run(seed=7, store=world.store).steps
        )
        if not step.reused
    ]
    assert [stage for stage, _ in ran] == ["train.plain", "export.quantized"]
    assert ran[0][1] == 6  # three readers, too big, exact, relabel, then `early`
    stages[5] = [replace(stages[5][0], by=13)]
    again = Pipeline("answers", stages).run(seed=7, store=world.store)
    assert [s.reused for s in again.steps] == [True] * 7 + [False] * (len(again.steps) - 7)
