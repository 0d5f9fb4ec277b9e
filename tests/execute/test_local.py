# SPDX-License-Identifier: Apache-2.0
"""Runs are recorded right, reused by content, and give the same bytes twice."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import duckdb
import polars as pl
import pytest

from datapipe import Estimate, Finding, Gate, Pipeline, RowStage, Stage, Yield, at_most, stage
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import scored_rows
from datapipe.core.roles import ORDINAL_BITS, Roles
from datapipe.core.run import Run
from datapipe.core.stage import OnFinding
from datapipe.errors import DataError, ExecutionError, GateClosed, SchemaMismatch
from datapipe.lineage.store import Lineage
from datapipe.stages import ReadCSV, ReadParquet

N = 400


@dataclass(frozen=True)
class TooBig(RowStage):
    over: int = 90

    name: ClassVar[str] = "test.too_big"

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"too big": pl.col("a") > self.over}


@dataclass(frozen=True)
class Odd(Stage):
    """Marks rows whose label is odd."""

    on_finding: OnFinding = "quarantine"

    name: ClassVar[str] = "test.odd"
    needs: ClassVar[tuple[str, ...]] = ("label",)

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.frame([data.roles.one("label")], row_id=True)
        odd = frame.to_series(1) % 2 == 1
        rows = scored_rows(
            frame.to_series(0),
            odd.cast(pl.Float64),
            flagged=odd,
            reason="odd",
            suggested=(frame.to_series(1) - 1).cast(pl.String),
        )
        measure = Estimate.rate(int(odd.sum()), len(odd))
        verdict = "fail" if odd.any() else "clean"
        return Yield(findings=(Finding("test.odd", verdict, measure, "odd labels", rows=rows),))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    first = pl.DataFrame({"a": [i % 100 for i in range(N)], "y": [i % 4 for i in range(N)]})
    first.write_parquet(tmp_path / "one.parquet")
    first.with_columns(pl.col("a") + 1).head(50).write_csv(tmp_path / "two.csv")
    return tmp_path / "one.parquet", tmp_path / "two.csv"


def chain(files: tuple[Path, Path], *, over: int = 90) -> Pipeline:
    readers = [ReadParquet(files[0], label="y"), ReadCSV(files[1], label="y")]
    return Pipeline("chain", [readers, TooBig(over=over), Odd(), Odd(on_finding="note")])


def expected_drops(files: tuple[Path, Path]) -> set[tuple[int, str]]:
    drops: set[tuple[int, str]] = set()
    frames = [pl.read_parquet(files[0]), pl.read_csv(files[1])]
    for number, frame in enumerate(frames, start=1):
        for ordinal, (a, y) in enumerate(frame.select("a", "y").rows()):
            row = (number << ORDINAL_BITS) + ordinal
            if a > 90:
                drops.add((row, "too big"))
            elif y % 2:
                drops.add((row, "test.odd: odd"))
    return drops


def test_every_dropped_row_has_its_reason(files: tuple[Path, Path], tmp_path: Path) -> None:
    run = chain(files).run(seed=7, store=tmp_path / "s")
    told = set(run.sql("select row_id, reason from dropped_rows").rows())
    expected = expected_drops(files)
    assert told == expected
    assert len(run.data) == N + 50 - len(expected)
    assert [(s.rows_in, s.rows_out, s.rows_aside) for s in run.steps][2:] == [
        (N + 50, 414, 36),
        (414, 209, 205),
        (209, 209, 0),
    ]
    kept = set(run.data.row_ids.to_list())
    assert not kept & {row for row, _ in expected}
    row, reason = next(iter(sorted(expected)))
    assert reason in str(run.why(row))


def test_an_unchanged_run_reads_no_data_bytes(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stamp(file: Path) -> list[int]:  # the kernel's own time of change cannot be set back
        told = file.stat()
        return [told.st_size, told.st_mtime_ns, 0, told.st_ino]

    monkeypatch.setattr("datapipe.execute.reuse._stamp", stamp)
    first = chain(files).run(seed=7, store=tmp_path / "s")
    for file in files:  # same name, size, time and inode, other bytes: reading them would show
        status = file.stat()
        file.write_bytes(b"\0" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    dropped = first.sql("from dropped_rows").height
    again = chain(files).run(seed=7, store=tmp_path / "s")
    assert all(s.reused for s in again.steps)
    assert again.data.digest == first.data.digest
    assert again.data.frame().equals(first.data.frame())
    assert [f.to_json() for f in again.findings] == [f.to_json() for f in first.findings]
    assert again.finding("test.odd").rows is not None
    drops = again.sql("select count(*) n from dropped_rows where run_id = $r", r=again.run_id)
    assert drops["n"][0] == dropped > 0


def test_the_run_that_takes_the_journal_past_a_mark_makes_the_index(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known() -> int:
        path = tmp_path / "s" / "lineage.duckdb"
        if not path.exists():
            return 0
        with duckdb.connect(str(path), read_only=True) as foreign:
            return foreign.execute("select count(*) from runs").fetchall()[0][0]

    monkeypatch.setattr("datapipe.execute._recorder.FEW_RECORDS", 80)
    length = 0
    for number in range(1, 5):
        behind, before = known(), length
        run = chain(files).run(seed=7, store=tmp_path / "s")
        length = len(Lineage(tmp_path / "s").leaves())
        assert known() == (number if length // 80 > before // 80 else behind)
    assert 80 < length < 320
    assert run.sql("select count(*) from runs").item() == 4


def test_a_changed_parameter_reruns_only_what_depends_on_it(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    readers = [ReadParquet(files[0], label="y")]

    def made(action: OnFinding) -> Pipeline:
        return Pipeline("p", [*readers, TooBig(), Odd(on_finding="note"), Odd(on_finding=action)])

    made("note").run(seed=7, store=tmp_path / "s")
    again = made("quarantine").run(seed=7, store=tmp_path / "s")
    assert [s.reused for s in again.steps] == [True, True, True, False]


def test_a_changed_file_is_read_again(files: tuple[Path, Path], tmp_path: Path) -> None:
    chain(files).run(seed=7, store=tmp_path / "s")
    pl.read_parquet(files[0]).head(10).write_parquet(files[0])
    again = chain(files).run(seed=7, store=tmp_path / "s")
    assert not any(s.reused for s in again.steps)
    assert again.steps[0].rows_in == 10


def test_the_same_seed_gives_the_same_bytes(files: tuple[Path, Path], tmp_path: Path) -> None:
    one = chain(files).run(seed=7, store=tmp_path / "s1")
    two = chain(files).run(seed=7, store=tmp_path / "s2")
    assert one.data.digest == two.data.digest
    assert one.data.path is not None
    assert two.data.path is not None
    assert one.data.path.read_bytes() == two.data.path.read_bytes()


def test_relabelling_is_recorded_with_its_reason(files: tuple[Path, Path], tmp_path: Path) -> None:
    run = Pipeline("p", [ReadParquet(files[0], label="y"), Odd(on_finding="relabel")]).run(
        seed=1, store=tmp_path / "s"
    )
    assert run.data.values("label").unique().sort().to_list() == [0, 2]
    history = run.sql("select row_id, before, after, why from label_history order by row_id")
    assert history.height == N // 2
    assert history.row(0)[1:] == ("1", "0", "test.odd: odd")


def test_a_closed_gate_is_recorded_and_hands_over_the_run(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    pipeline = Pipeline(
        "p",
        [ReadParquet(files[0], label="y"), Odd(on_finding="note"), Gate({"test.*": at_most(0.1)})],
    )
    with pytest.raises(GateClosed, match=r"test\.odd") as closed:
        pipeline.run(seed=1, store=tmp_path / "s")
    run = closed.value.run
    assert isinstance(run, Run)
    assert run.verdict == "fail"
    states = run.sql("select state, verdict from run_status").rows()
    assert states == [("stopped", "fail")]
    assert run.sql("select kind from findings order by seq")["kind"].to_list()[-1] == "gate"


def test_stop_ends_the_run_on_a_failed_finding(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(GateClosed, match="odd labels"):
        Pipeline("p", [ReadParquet(files[0], label="y"), Odd(on_finding="stop")]).run(
            seed=1, store=tmp_path / "s"
        )
    assert Lineage(tmp_path / "s").sql("select state from run_status")["state"].to_list() == [
        "stopped"
    ]


def test_bad_input_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("a,y\n1,2\n1,2,3\n")
    with pytest.raises(DataError):
        Pipeline("p", [ReadCSV(file, label="y")]).run(seed=1, store=tmp_path / "s")
    good = tmp_path / "good.csv"
    good.write_text("a,y\n1,2\n")
    with pytest.raises(SchemaMismatch, match="label"):
        Pipeline("p", [ReadCSV(good, label="z")]).run(seed=1, store=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_broken_stage_says_where_and_the_run_is_failed(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    @stage("test.broken", version="1")
    def broken(frame: pl.LazyFrame) -> pl.LazyFrame:
        raise RuntimeError("inside")

    with pytest.raises(ExecutionError, match=r"test\.broken failed: RuntimeError"):
        Pipeline("p", [ReadParquet(files[0], label="y"), broken()]).run(
            seed=1, store=tmp_path / "s"
        )
    assert Lineage(tmp_path / "s").sql("select state from run_status")["state"].to_list() == [
        "failed"
    ]


def test_rows_of_an_earlier_run_keep_their_names(files: tuple[Path, Path], tmp_path: Path) -> None:
    first = chain(files).run(seed=7, store=tmp_path / "s")
    second = Pipeline("next", [Odd(on_finding="note")]).run(
        first.data, seed=7, store=tmp_path / "s"
    )
    assert second.data.row_ids.equals(first.data.row_ids)
    assert second.data.digest == first.data.digest


def test_functions_without_a_version_are_never_reused(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    @stage("test.plain")
    def plain(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(pl.col("a") < 5)

    @stage("test.versioned", version="1")
    def versioned(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(pl.col("a") < 3)

    pipeline = Pipeline("p", [ReadParquet(files[0], label="y"), plain(), versioned()])
    pipeline.run(seed=1, store=tmp_path / "s")
    again = pipeline.run(seed=1, store=tmp_path / "s")
    assert [s.reused for s in again.steps] == [True, False, True]


def test_what_a_lambda_made_is_not_taken_for_what_another_lambda_would_make(tmp_path: Path) -> None:
    @stage("test.add", version="1")
    def add(frame: pl.LazyFrame, *, value: Callable[[], int]) -> pl.LazyFrame:
        return frame.with_columns(z=pl.lit(value()))

    rows = pl.DataFrame({"a": [1, 2]})
    for made in (lambda: 1, lambda: 2):
        run = Pipeline("p", [add(value=made)]).run(rows, seed=1, store=tmp_path)
        assert run.data.frame()["z"].to_list() == [made(), made()]


@dataclass(frozen=True)
class Uncastable(Stage):
    """Asks the engine for what the column's type does not allow."""

    name: ClassVar[str] = "test.uncastable"

    def run(self, data: Dataset, context: Context) -> Yield:
        data.scan().select(pl.col("l").cast(pl.String)).collect()
        return Yield()


def test_an_engines_error_names_the_stage_that_met_it_not_the_first_of_its_group(tmp_path):
    frame = pl.DataFrame({"a": [1, 2], "l": [[1], [2]]})
    beside = Pipeline("p", [[Odd(), Uncastable()]])
    with pytest.raises(DataError, match=r"^test\.uncastable: the rows cannot be read or computed"):
        beside.run(frame, seed=0, store=tmp_path, roles=Roles.of(label="a"))


@dataclass(frozen=True)
class Breaks(RowStage):
    """Its author's code goes wrong: when it is asked for its columns, or on a row."""

    how: str = "raise"

    name: ClassVar[str] = "test.breaks"

    def columns(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        if self.how == "raise":
            raise ValueError("no such thing")
        if self.how == "leave":
            raise SystemExit(0)
        return {"b": pl.col("a").map_elements(lambda _: sys.exit(0), return_dtype=pl.Int64)}


@pytest.mark.parametrize("how", ["raise", "leave", "leave on a row"])
def test_a_row_stage_whose_author_erred_fails_the_run_and_is_named(files, tmp_path: Path, how):
    """`sys.exit(0)` would look like a finished run."""
    chain = Pipeline("broken", [ReadParquet(files[0]), Breaks(how)])
    with pytest.raises(ExecutionError, match=r"test\.breaks|ingest\.parquet") as told:
        chain.run(seed=1, store=tmp_path / "store")
    assert told.value.code == "DP-EXEC-001"
    assert Lineage(tmp_path / "store").sql("select state from run_status").item() == "failed"


def test_a_step_is_recorded_with_the_code_that_its_run_began_with(tmp_path):
    seen: list[int] = []

    class Counts(Stage):
        name: ClassVar[str] = "test.counts"

        def run(self, data: Dataset, context: Context) -> Yield:
            seen.append(len(data))  # what it closes over is part of its code
            return Yield()

    before = Counts().code_digest()
    rows = Dataset.of(pl.DataFrame({"a": [1, 2]}))
    run = Pipeline("p", [Counts()]).run(rows, seed=7, store=tmp_path / "store")
    assert seen == [2]
    assert Counts().code_digest() != before
    assert run.sql("select code_digest from steps where stage = 'test.counts'").item() == before
