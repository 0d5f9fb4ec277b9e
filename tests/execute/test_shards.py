# SPDX-License-Identifier: Apache-2.0
"""Large inputs run in shards: an interrupted run goes on inside a file, to the same bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl
import pyarrow.parquet as pq
import pytest

from datapipe.core.dataset import Dataset, Piece
from datapipe.core.pipeline import Pipeline
from datapipe.core.soundness import sound
from datapipe.core.stage import RowStage
from datapipe.errors import ExecutionError
from datapipe.execute.local import LocalExecutor
from datapipe.execute.shards import SHARD_ROWS, cut, pieces_of, run_here
from datapipe.stages import ReadArrow, ReadParquet

ROWS = 900_000


@dataclass(frozen=True)
class Odd(RowStage):
    name: ClassVar[str] = "demo.odd"

    def set_aside(self, roles, types):
        return {"of five": pl.col("k") % 5 == 0, "of seven": pl.col("k") % 7 == 0}

    def columns(self, roles, types):
        return {"twice": pl.col("k") * 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two files, the first of them one oversized row group."""
    folder = tmp_path_factory.mktemp("in")
    frame = pl.DataFrame({"k": range(ROWS), "s": [f"s{i % 97}" for i in range(ROWS)]})
    frame[:700_000].write_parquet(folder / "0.parquet", row_group_size=700_000)
    frame[700_000:].write_parquet(folder / "1.parquet")
    return folder


def run(source, store, run_jobs=run_here, *stages):
    reader = ReadParquet(str(source / "*.parquet"))
    executor = LocalExecutor(run_jobs)
    return Pipeline("p", [reader, Odd(), *stages]).run(seed=7, store=store, executor=executor)


@pytest.fixture(scope="module")
def uninterrupted(source, tmp_path_factory):
    return run(source, tmp_path_factory.mktemp("whole") / "store")


def objects(store):
    return sorted(p.name for p in (Path(store) / "objects").glob("*.parquet"))


def test_a_large_input_gives_the_rows_of_the_bare_plan(source, uninterrupted):
    bare = pl.scan_parquet(source / "*.parquet").with_row_index("i")
    bare = bare.filter((pl.col("k") % 5 != 0) & (pl.col("k") % 7 != 0))
    bare = bare.with_columns(twice=pl.col("k") * 2).collect()
    assert uninterrupted.data.frame().equals(bare.select("k", "s", "twice"))
    ids = uninterrupted.data.row_ids - (1 << 40)
    assert ids.equals(bare["i"].cast(pl.UInt64).alias("_row_id"))
    dropped = uninterrupted.sql("select reason, count(*) as n from dropped_rows group by 1")
    assert dict(dropped.rows()) == {"of five": 180_000, "of seven": 102_857}


def test_no_shard_is_larger_than_its_cap_and_every_page_is_checksummed(source, uninterrupted):
    path = uninterrupted.data.path
    meta = pq.read_metadata(path)
    sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
    assert max(sizes) <= 131_072
    assert len(sizes) >= ROWS // SHARD_ROWS
    assert sound(path).complete


@pytest.mark.parametrize("stop", [0, 3])
def test_an_interrupted_run_goes_on_after_its_last_shard(source, tmp_path, uninterrupted, stop):
    built = []

    def breaking(jobs):
        for number, build in enumerate(jobs):
            if number == stop:
                raise ExecutionError("stopped here", code="DP-EXEC-999", hint="go on")
            yield build().run()

    def counting(jobs):
        for build in jobs:
            job = build()
            built.append(job.kept is not None)
            yield job.run()

    with pytest.raises(ExecutionError, match="stopped here"):
        run(source, tmp_path, breaking)
    assert not (tmp_path / "objects").exists() or objects(tmp_path) == []
    resumed = run(source, tmp_path, counting)
    assert built == [False] * stop + [True] * (4 - stop)
    assert resumed.data.digest == uninterrupted.data.digest
    assert objects(tmp_path) == objects(uninterrupted.store)
    assert not list((tmp_path / "partial").glob("*/rows.parquet"))


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_what_was_damaged_in_between_is_made_again(source, tmp_path, uninterrupted, damage):
    def breaking(jobs):
        for build in list(jobs)[:3]:
            yield build().run()
        raise ExecutionError("stopped here", code="DP-EXEC-999", hint="go on")

    with pytest.raises(ExecutionError):
        run(source, tmp_path, breaking)
    (rows,) = (tmp_path / "partial").glob("*/rows.parquet")
    told, raw = rows.with_name("shards.jsonl"), bytearray(rows.read_bytes())
    if damage == "cut":
        rows.write_bytes(raw[: len(raw) * 2 // 3])
        told.write_bytes(told.read_bytes()[:-40])
    else:
        raw[len(raw) // 2] ^= 4
        rows.write_bytes(raw)
    assert run(source, tmp_path).data.digest == uninterrupted.data.digest


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from test_shards import run
from datapipe.execute.shards import run_here

def killing(jobs):
    for number, made in enumerate(run_here(jobs)):
        if number == {after}:
            os.kill(os.getpid(), signal.SIGKILL)
        yield made

from pathlib import Path
run(Path({source!r}), {store!r}, killing)
"""


@pytest.mark.parametrize("after", [2])
def test_kill_9_inside_a_file_loses_no_finished_shard(source, tmp_path, uninterrupted, after):
    here = str(Path(__file__).parent)
    code = KILLED.format(here=here, after=after, source=str(source), store=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-500:]
    (told,) = (tmp_path / "partial").glob("*/shards.jsonl")
    assert len(told.read_bytes().splitlines()) == after
    resumed = run(source, tmp_path)
    assert resumed.data.digest == uninterrupted.data.digest
    assert objects(tmp_path) == objects(uninterrupted.store)
    states = resumed.sql("select state, count(*) as n from run_status group by 1 order by 1")
    assert states.rows() == [("abandoned", 1), ("finished", 1)]


def test_two_runs_at_once_do_not_share_an_unfinished_output(source, tmp_path, uninterrupted):
    inner = []

    def nested(jobs):
        for number, made in enumerate(run_here(jobs)):
            if number == 1:
                inner.append(run(source, tmp_path))
            yield made

    outer = run(source, tmp_path, nested)
    assert outer.data.digest == inner[0].data.digest == uninterrupted.data.digest


def test_another_seed_or_stage_does_not_go_on_with_a_foreign_output(source, tmp_path):
    @dataclass(frozen=True)
    class Other(RowStage):
        name: ClassVar[str] = "demo.other"

        def columns(self, roles, types):
            return {"other": pl.lit(1)}

    def breaking(jobs):
        yield next(iter(jobs))().run()
        raise ExecutionError("stopped here", code="DP-EXEC-999", hint="go on")

    with pytest.raises(ExecutionError):
        run(source, tmp_path, breaking)
    assert run(source, tmp_path, run_here, Other()).data.names == ["k", "s", "twice", "other"]


def test_row_stages_over_large_arrow_files_run_in_shards_too(source, tmp_path, monkeypatch):
    monkeypatch.setattr("datapipe.stages.ingest.ipc.HELD_BYTES", 0)
    seen = []

    def counting(jobs):
        seen.append(len(jobs))
        return run_here(jobs)

    rows = pl.read_parquet(source / "*.parquet")
    Dataset.of(rows).save(tmp_path / "a.arrow")
    pipeline = Pipeline("p", [ReadArrow(tmp_path / "a.arrow"), Odd()])
    run = pipeline.run(seed=7, store=tmp_path / "s", executor=LocalExecutor(counting))
    kept = rows.filter((pl.col("k") % 5 != 0) & (pl.col("k") % 7 != 0))
    assert run.data.frame(["k", "s"]).equals(kept)
    assert seen == [4]


WIDE = 6_000


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Rows of 15 kB: 90 MB in memory, and half a MB as files."""
    home = tmp_path_factory.mktemp("wide")
    rows = pl.DataFrame({"k": range(WIDE), "s": [f"{i:06d} " * 2150 for i in range(WIDE)]})
    rows.write_parquet(home / "a.parquet", use_pyarrow=True, pyarrow_options={"use_dictionary": []})
    Dataset.of(rows).save(home / "a.arrow")
    return home


@pytest.mark.parametrize("reader", [ReadParquet, ReadArrow])
def test_large_rows_are_cut_by_their_bytes_wherever_they_come_from(
    wide, tmp_path, monkeypatch, reader
):
    """So that what is in memory at once does not grow with the size of a row."""
    monkeypatch.setattr("datapipe.stages.ingest.ipc.HELD_BYTES", 0)
    seen = []

    def counting(jobs):
        seen.append(len(jobs))
        return run_here(jobs)

    def passed(*stages):
        source = reader(wide / ("a.parquet" if reader is ReadParquet else "a.arrow"))
        pipeline = Pipeline("p", [source, *stages])
        return pipeline.run(seed=7, store=tmp_path, executor=LocalExecutor(counting))

    kept = passed(Odd()).data
    assert seen == [2]
    assert len(kept) == sum(1 for k in range(WIDE) if k % 5 and k % 7)
    assert len(cut(pieces_of(kept), most_bytes=20_000_000)) == 4  # as the store has them
    assert len(cut(pieces_of(kept))) == 1


def test_a_large_row_group_is_cut_by_its_bytes_a_few_times_at_most():
    """Each slice decodes what lies before it in the group once more."""
    lines = pl.LazyFrame({"a": [1] * 60})
    cuts = [len(cut([Piece(lines, 60, 1_000, groups)], most_bytes=10)) for groups in (1, 2, 100)]
    assert cuts == [4, 8, 60]


def test_small_neighbours_share_a_shard():
    lines = pl.LazyFrame({"a": [1] * 6})
    sizes = [s.frame.collect().height for s in cut([Piece(lines, 6)] * 5, 14)]
    assert sizes == [12, 12, 6]


def test_slices_of_a_large_row_group_run_one_at_a_time(tmp_path, monkeypatch):
    """An engine holds all of a group to read a slice of it: two would hold it twice."""
    from datapipe.execute import shards

    rows = pl.DataFrame({"k": range(600)}).with_row_index("_row_id")
    rows = rows.cast({"_row_id": pl.UInt64})
    rows.write_parquet(tmp_path / "a.parquet", row_group_size=600)
    rows.write_parquet(tmp_path / "b.parquet", row_group_size=100)
    running, most = [], []

    class Counted(shards.Job):
        def run(self):
            running.append(1)
            most.append(len(running))
            time.sleep(0.05)
            running.pop()
            return super().run()

    monkeypatch.setattr(shards, "Job", Counted)
    monkeypatch.setattr(shards.cut, "__defaults__", (100, 4_000))
    for name, expected in (("a", 1), ("b", 2)):
        most.clear()
        path = tmp_path / f"{name}.parquet"
        data = Dataset(pl.scan_parquet(path), path=path, rows=600, digest="sha256:0")
        assert len(list(run_here(shards.jobs_of(data, [Odd()])))) == 6
        assert max(most) == expected


def test_many_threads_run_shards_side_by_side_in_order(monkeypatch):
    from datapipe.execute import shards

    monkeypatch.setattr(shards.pl, "thread_pool_size", lambda: 16)
    jobs = [lambda i=i: shards.Job(pl.LazyFrame({"a": [i]}), None) for i in range(9)]
    made = [pl.read_parquet(m.rows)["a"][0] for m in run_here(jobs)]
    assert made == list(range(9))
