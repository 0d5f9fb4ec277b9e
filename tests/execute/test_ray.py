# SPDX-License-Identifier: Apache-2.0
"""On a cluster of two nodes a plan gives the same bytes and lineage, also when workers die."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import polars as pl
import pytest

from datapipe.core.pipeline import Pipeline
from datapipe.core.stage import RowStage
from datapipe.errors import ExecutionError
from datapipe.execute import shards
from datapipe.execute.ray import RayExecutor
from datapipe.lineage.store import Lineage
from datapipe.stages import ReadParquet

pytest.importorskip("ray")
ROWS = 1_600_000
SHORT = 16_000
SHARD_ROWS = 800
"""Of the short source: 20 shards, each of whose workers dies `DEATHS` times."""
DEATHS = 2
STEPS = (
    "before its plans run",
    "between its rows and those it drops",
    "before its result returns",
    "after its result returned",
    "at a random moment",
)


@dataclass(frozen=True)
class Odd(RowStage):
    name: ClassVar[str] = "demo.odd"

    def set_aside(self, roles, types):
        return {"of five": pl.col("k") % 5 == 0}

    def columns(self, roles, types):
        return {"loud": pl.col("s").str.to_uppercase()}


@pytest.fixture(scope="module")
def nodes(cluster):
    """The cluster, with this process as a driver on it."""
    import ray

    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    yield cluster
    ray.shutdown()


def written(path, rows):
    words = pl.Series([f"word {i}" for i in range(1000)])
    frame = pl.DataFrame({"k": range(rows), "s": words[[i % 1000 for i in range(rows)]]})
    frame.write_parquet(path)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return written(tmp_path_factory.mktemp("in") / "a.parquet", ROWS)


def run(source, store, executor=None):
    return Pipeline("p", [ReadParquet(source), Odd()]).run(seed=7, store=store, executor=executor)


@pytest.fixture(scope="module")
def local(source, tmp_path_factory):
    return run(source, tmp_path_factory.mktemp("local") / "store")


def lineage(run):
    """Everything recorded but ids of runs, times and costs."""
    asked = {
        "steps": "select position, stage, version, key, params, seed, rows_in, rows_out,"
        " rows_aside, dataset_in, dataset_out, reused_from from steps order by position",
        "datasets": "select digest, rows, bytes, schema, roles, source_nos from datasets",
        "sources": "select source_no, name, digest, rows, files from sources order by 1",
        "dropped_rows": "select row_id, stage, reason from dropped_rows order by 1",
        "step_io": "select role, name, digest from step_io order by all",
    }
    return {name: run.sql(query) for name, query in asked.items()}


def same(one, other):
    assert one.data.digest == other.data.digest
    theirs = lineage(other)
    for name, told in lineage(one).items():
        assert told.equals(theirs[name]), name


def later(seconds, act):
    thread = threading.Timer(seconds, act)
    thread.start()
    return thread


def test_output_and_lineage_equal_those_of_the_local_executor(nodes, source, local, tmp_path):
    same(run(source, tmp_path, RayExecutor()), local)


@dataclass(frozen=True)
class Leaves(RowStage):
    name: ClassVar[str] = "demo.leaves"

    def columns(self, roles, types):
        return {"k": pl.col("k").map_elements(lambda _: sys.exit(0), return_dtype=pl.Int64)}


def test_a_function_that_would_end_its_worker_fails_the_run_at_once(nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(shards.cut, "__defaults__", (SHARD_ROWS, shards.SHARD_BYTES))
    rows = written(tmp_path / "a.parquet", 2 * SHARD_ROWS)
    with pytest.raises(ExecutionError, match="a shard failed on the cluster: ExecutionError"):
        Pipeline("p", [ReadParquet(rows), Leaves()]).run(
            seed=7, store=tmp_path / "store", executor=RayExecutor()
        )


def test_a_task_keeps_to_the_one_cpu_that_it_counts_as(nodes):
    import ray

    @ray.remote(num_cpus=1)
    def threads():
        from datapipe.execute._shard_task import shard

        shard(None, None)
        import polars as pl  # not before: it starts its threads when it is loaded

        return pl.thread_pool_size()

    assert ray.get(threads.remote()) == 1


FILE = """
import polars as pl
from datapipe import Pipeline, RowStage
from datapipe.stages import ReadParquet

class Odd(RowStage):
    name = "demo.odd"
    def set_aside(self, roles, types):
        return {{"of five": pl.col("k") % 5 == 0}}
    def columns(self, roles, types):
        return {{"loud": pl.col("s").str.to_uppercase()}}

p = Pipeline("p", [ReadParquet({path!r}), Odd()])
"""


def test_the_command_line_runs_on_a_cluster_and_leaves_it(nodes, source, local, tmp_path):
    """A process of its own joins by the address, gives the same rows, exits 0 and is gone."""
    (tmp_path / "p.py").write_text(FILE.format(path=str(source)))
    words = ["run", "p.py", "--seed", "7", "--json", "--executor", "ray"]
    done = subprocess.run(
        [sys.executable, "-m", "datapipe", *words, "--address", nodes.address],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout)
    assert told["rows"] == len(local.data)
    lineage = Lineage(tmp_path / ".datapipe")
    assert local.data.digest in lineage.sql("select digest from datasets")["digest"].to_list()


@pytest.mark.faults
def test_a_worker_killed_and_a_node_lost_in_mid_run_change_nothing(
    nodes, source, local, tmp_path, request
):
    if "faults" not in request.config.option.markexpr:
        pytest.skip("Ray takes its time to believe in a death: `make faults`")
    first, second = nodes.nodes
    hit = []

    def strike():
        end = time.monotonic() + 20
        while not hit and time.monotonic() < end:
            for pid in nodes.at_work(first):
                os.kill(pid, signal.SIGKILL)
                hit.append(pid)
            time.sleep(0.01)
        nodes.lose(second)

    thread = later(0.2, strike)
    found = run(source, tmp_path, RayExecutor())
    thread.join()
    same(found, local)
    assert hit


def dying(marks):
    """The work of a worker on a shard, which dies in the middle of it; the product knows nothing.

    A mark that is made says that this shard had its death, what is written on it that it came.
    """

    def shard(kept, dropped, apart):
        from datapipe.execute import _shard_task

        def die(mark, step):
            os.write(mark, step.encode())
            os.kill(os.getpid(), signal.SIGKILL)

        name = hashlib.sha256(b"".join(p or b"" for p in (kept, dropped))).hexdigest()[:16]
        mark, step = -1, ""
        for death in range(DEATHS):
            with contextlib.suppress(FileExistsError):
                mark = os.open(f"{marks}/{name}.{death}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                step = STEPS[(int(name, 16) + death) % len(STEPS)]
                break
        if step == STEPS[4]:
            moment = random.Random(name).random() * 0.05
            threading.Timer(moment, die, (mark, step)).start()
        if step == STEPS[0]:
            die(mark, step)
        rows, _ = _shard_task.shard(kept, None)
        if step == STEPS[1]:
            die(mark, step)
        _, left = _shard_task.shard(None, dropped, apart)
        if step == STEPS[2]:
            die(mark, step)
        if step == STEPS[3]:
            threading.Timer(0.002, die, (mark, step)).start()
        return rows, left

    return shard


def test_the_work_that_dies_is_called_like_the_real_one():
    """The sweep with deaths runs rarely: this is asked whenever the tests run."""
    from datapipe.execute._shard_task import shard

    names = list(inspect.signature(shard).parameters)
    assert list(inspect.signature(dying("")).parameters) == names


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_kills_of_workers_lose_nothing_and_change_nothing(
    nodes, tmp_path, request, monkeypatch, record_property
):
    """Every shard's worker dies more than once, at a step of its work or at a random moment."""
    if "faults" not in request.config.option.markexpr:
        pytest.skip("each death costs the start of a worker: `make faults`")
    import ray

    short = written(tmp_path / "short.parquet", SHORT)
    monkeypatch.setattr(shards, "SHARD_ROWS", SHARD_ROWS)
    monkeypatch.setattr(shards.cut, "__defaults__", (SHARD_ROWS, shards.SHARD_BYTES))
    whole = run(short, tmp_path / "whole")
    marks = tmp_path / "marks"
    marks.mkdir()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr("datapipe.execute.ray.shard", dying(str(marks)))
    try:
        found = run(short, tmp_path / "store", RayExecutor())
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    killed = Counter(step for mark in marks.iterdir() if (step := mark.read_text()))
    record_property("kills", {f"run on Ray: worker: a shard, {k}": n for k, n in killed.items()})
    same(found, whole)
    assert Lineage(tmp_path / "store").verify() == []
    count = SHORT // SHARD_ROWS
    assert len({mark.stem for mark in marks.iterdir()}) == count
    assert killed.total() >= count  # who is done before its moment comes dies no more
    assert set(killed) == set(STEPS)


def test_a_cluster_that_is_not_there_is_told():
    import ray

    ray.shutdown()
    with pytest.raises(ExecutionError, match="no Ray cluster"):
        RayExecutor("127.0.0.1:1").run(None, data=None, seed=0, store=None)
