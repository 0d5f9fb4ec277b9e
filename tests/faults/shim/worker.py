# SPDX-License-Identifier: Apache-2.0
"""A process that works on a store and dies on demand: one fork a job, told as JSON lines.

It is started with the fault library preloaded. Everything heavy is imported once, before the
forks; neither polars nor DuckDB has started a thread by then.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import importlib.readers  # noqa: F401 - loaded before the forks
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import duckdb  # noqa: F401 - loaded before the forks
import numpy.ma  # noqa: F401 - loaded before the forks
import polars as pl
import polars._utils.parquet
import pyarrow.parquet  # noqa: F401 - loaded before the forks
import threadpoolctl  # noqa: F401 - loaded before the forks

import datapipe.execute.local  # noqa: F401 - loaded before the forks
from datapipe import Estimate, Finding, Pipeline, RowStage, Stage, Yield
from datapipe.cli.exits import as_told, exit_code
from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.digest import canonical, digest_file
from datapipe.core.finding import scored_rows
from datapipe.core.roles import Roles
from datapipe.core.stage import OnFinding
from datapipe.execute import shards
from datapipe.execute.ray import RayExecutor
from datapipe.lineage.objects import bare
from datapipe.lineage.store import Lineage
from datapipe.stages import ExactDuplicates, ReadCSV, ReadParquet

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class TooBig(RowStage):
    name: ClassVar[str] = "test.too_big"

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"too big": pl.col("a") > 90, "too small": pl.col("a") < 3}


@dataclass(frozen=True)
class Sevens(Stage):
    """Rows whose `b` is a multiple of seven get the label 0."""

    on_finding: OnFinding = "relabel"

    name: ClassVar[str] = "test.sevens"
    needs: ClassVar[tuple[str, ...]] = ("label",)

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.frame(["b"], row_id=True)
        marked = frame["b"] % 7 == 0
        zeros = pl.Series(["0"] * frame.height)
        rows = scored_rows(
            frame["_row_id"], marked.cast(pl.Float64), flagged=marked, reason="7", suggested=zeros
        )
        measure = Estimate.rate(int(marked.sum()), frame.height)
        return Yield(findings=(Finding("test.sevens", "suspect", measure, "sevens", rows=rows),))


@dataclass(frozen=True)
class Mean(Stage):
    """A model of one number, trained on the first nine tenths."""

    name: ClassVar[str] = "test.mean"

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.frame(["a"], row_id=True)
        used = frame.head(frame.height * 9 // 10)
        path = context.scratch / "mean.json"
        path.write_text(json.dumps({"mean": used["a"].mean()}))
        made = Artifact("mean", "model", path, "application/json", {}, {}, row_ids=used["_row_id"])
        return Yield(artifacts=(made,))


def pipeline(source: str) -> Pipeline:
    """From CSV in one piece, from Parquet in shards."""
    kind = ReadParquet if source.endswith(".parquet") else ReadCSV
    read = kind(source, text="t", label="y")
    return Pipeline("faults", [read, TooBig(), ExactDuplicates(columns=("t",)), Sevens(), Mean()])


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run the pipeline; whatever was acknowledged is told to a side file first."""
    if "shard_rows" in job:  # so that a small file has many
        shards.SHARD_ROWS = job["shard_rows"]
        shards.cut.__defaults__ = (job["shard_rows"], shards.SHARD_BYTES)
    executor = RayExecutor(job["address"]) if "address" in job else None
    done = pipeline(job["source"]).run(seed=7, store=job["store"], executor=executor)
    gone = done.lineage.sql(
        "select row_id, stage, reason from dropped_rows where run_id = $run order by all",
        run=done.run_id,
    )
    rows = done.lineage.sql(
        "select row_id from model_rows where model_id = $m order by 1",
        m=done.artifacts["mean"].digest,
    )
    return {
        "run_id": done.run_id,
        "data": done.data.digest,
        "model": done.artifacts["mean"].digest,
        "dropped": hashlib.sha256(gone.write_csv().encode()).hexdigest(),
        "trained": hashlib.sha256(rows.write_csv().encode()).hexdigest(),
    }


def index(job: dict[str, Any]) -> dict[str, Any]:
    """The committer: bring the index up to date."""
    return {"done": Lineage(job["store"]).index()}


def rebuild(job: dict[str, Any]) -> dict[str, Any]:
    """The committer that starts from nothing."""
    Lineage(job["store"]).rebuild()
    return {}


def glance(job: dict[str, Any]) -> dict[str, Any]:
    """What the files say of themselves, held against what was acknowledged; nothing is mended."""
    lineage = Lineage(job["store"])
    records = list(lineage._journal.read(until=lineage._journal.tail().mark))  # a torn end is legal
    held = {line_of(r.kind, r.body) for r in records}
    told = Path(job["told"]).read_text().split() if Path(job["told"]).exists() else []
    return {
        "problems": _damaged(lineage),
        "lost": len([t for t in told if t not in held]),
        "told": len(told),
        "ended": [
            r.body["run_id"]
            for r in records
            if r.kind == "run_events" and r.body["event"] == "finished"
        ],
    }


def check(job: dict[str, Any]) -> dict[str, Any]:
    """What the store says of itself, held against what was acknowledged."""
    lineage = Lineage(job["store"])
    problems = [] if job.get("quick") else [str(p) for p in lineage.verify()]
    seen = glance(job)
    states = lineage.sql("select run_id, state from run_status").rows()
    batches = lineage.sql(
        "select count(*) from steps s left join step_io i on i.step_id = s.step_id and "
        "i.role = 'out' where i.step_id is null"
    ).item()
    return {
        **seen,
        "problems": problems + seen["problems"],
        "torn": batches,
        "states": dict(states),
        "left": [p.name for p in (lineage.store / "tmp").iterdir() if p.is_dir()],
    }


def _damaged(lineage: Lineage) -> list[str]:
    """Objects that are not what they are named by: the cheap part of `verify`."""
    names = lineage._objects.names()
    return [n for n in names if digest_file(lineage.objects / n) != f"sha256:{bare(n)}"]


def line_of(kind: str, body: Any) -> str:
    return hashlib.sha256(canonical([kind, body])).hexdigest()


def telling(told: str) -> None:
    """Write down, from now on, every record whose append returned."""
    real = Lineage.append
    side = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append(self: Lineage, records: Any) -> None:
        real(self, records)
        bodies = [json.loads(canonical(dict(body))) for _, body in records]
        names = [line_of(k, b) for (k, _), b in zip(records, bodies, strict=True)]
        os.write(side, "".join(f"{n}\n" for n in names).encode())

    Lineage.append = append  # type: ignore[method-assign]  # this process ends after its job


JOBS = {"run": run, "index": index, "rebuild": rebuild, "glance": glance, "check": check}


def child(job: dict[str, Any], answer: int) -> None:
    """Do one job, with the library armed, and say how it ended."""
    told: dict[str, Any] = {}
    code, begun = 0, time.perf_counter()
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.faults_count.restype = ctypes.c_long
    if job["job"] == "run" and job.get("told"):
        telling(job["told"])
    library.faults_arm(
        os.fsencode(job["store"]) if "action" in job else b"",
        ctypes.c_long(job.get("at", 0)),
        job.get("action", 0),
        job.get("errno", 0),
        os.fsencode(job.get("log", "")),
        os.fsencode(job.get("only", "")),
    )
    try:
        told = JOBS[job["job"]](job)
    except BaseException as error:  # noqa: BLE001 - every way out is an answer
        code = exit_code(error)
        told = {"error": type(error).__name__, "code": getattr(error, "code", "")}
        if not told["code"]:
            told["where"] = traceback.format_exc().splitlines()[-9:]
        told["message"] = str(error)[:500] if code == 1 else as_told(error).message[:500]
    told["count"] = library.faults_count()
    told["cpu_s"] = time.process_time()
    told["wall_s"] = time.perf_counter() - begun
    library.faults_arm(b"", ctypes.c_long(0), 0, 0, b"", b"")
    os.write(answer, json.dumps({"rc": code, **told}).encode())
    os._exit(0)


def kill_at(pid: int, cpu_s: float) -> None:
    """Kill a child once it has used so much CPU time, unless it has ended by then."""
    while running(pid):
        used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        if sum(map(int, used)) / TICKS_A_SECOND >= cpu_s:
            time.sleep(cpu_s % (1 / TICKS_A_SECOND))
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.002)


def kill_after(pid: int, wall_s: float) -> None:
    """Kill a child that waits for others at a moment of its wall time, unless it has ended."""
    end = time.perf_counter() + wall_s
    while running(pid):
        if time.perf_counter() >= end:
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.002)


def running(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def main() -> None:
    gc.freeze()  # so that the children share these pages
    for line in sys.stdin:
        job = json.loads(line)
        if "address" in job:
            import ray  # noqa: F401 - loaded before the forks that need it
        theirs, ours = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(theirs)
            child(job, ours)
        os.close(ours)
        if "after_cpu_s" in job:
            kill_at(pid, job["after_cpu_s"])
        if "after_s" in job:
            kill_after(pid, job["after_s"])
        with os.fdopen(theirs, "rb") as pipe:
            said = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        answer = json.loads(said) if said else {"rc": status}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
