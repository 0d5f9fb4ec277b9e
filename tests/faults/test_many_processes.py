# SPDX-License-Identifier: Apache-2.0
"""Eight processes run pipelines on one store while others ask: all is recorded, nobody waits.

The readers are one of ours and a plain DuckDB that knows nothing of this package.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datapipe.lineage.store import Lineage

RUNS = """
import sys
import polars as pl
import pyarrow as pa
from datapipe import Dataset, Pipeline, RowStage

class Third(RowStage):
    name = "test.third"
    def set_aside(self, roles, types):
        return {"third": pl.col("a") % 3 == 0}

store, me, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for n in range(times):
    rows = Dataset.of(pa.table({"a": list(range(n, n + 50)), "who": [me] * 50}))
    run = Pipeline(f"p{me}", [Third()]).run(rows, seed=n, store=store)
    mine = run.sql("select count(*) as n from run_status where run_id = $run", run=run.run_id)
    assert mine["n"][0] == 1, "a run does not see itself"
"""
POLLS = """
import os, sys, time
import duckdb
path, parent, asked, before = sys.argv[1], os.getppid(), 0, 0
while not os.path.exists(sys.argv[2]):
    with duckdb.connect(path, read_only=True) as connection:
        query = "select count(*) from run_status where state = 'finished'"
        found = connection.execute(query).fetchone()[0]
        assert found >= before, (found, before)
        before, asked = found, asked + 1
    time.sleep(float(sys.argv[3]))
print(asked, before)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)  # type: ignore[call-overload]  # from a dict


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_eight_processes_run_while_two_readers_ask_all_the_time(tmp_path: Path, sweeps):
    processes, times = (8, 50) if sweeps else (2, 3)
    lineage = Lineage(tmp_path / "store", create=True)
    assert lineage.index()
    stop = tmp_path / "stop"
    rest = 0.02 if sweeps else 0.1
    foreign = start(POLLS, lineage.store / "lineage.duckdb", stop, rest)
    runners = [start(RUNS, lineage.store, me, times) for me in range(processes)]
    counts = [0]
    while any(runner.poll() is None for runner in runners):
        counts.append(lineage.sql("select count(*) from log_entries").item())
        time.sleep(rest)
    errors = [runner.communicate()[1] for runner in runners]
    stop.touch()
    told, error = foreign.communicate(timeout=120)
    assert [runner.returncode for runner in runners] == [0] * processes, errors
    assert foreign.returncode == 0, error
    assert not any("Error" in text or "lock" in text.lower() for text in errors), errors
    asked, seen = map(int, told.split())
    print(f"{len(counts)} questions of ours and {asked} of plain DuckDB; it saw {seen} runs")
    assert counts == sorted(counts)
    assert asked > 0
    states = lineage.sql("select state, count(*) as n from run_status group by all").rows()
    assert states == [("finished", processes * times)]
    assert lineage.sql("select count(*) from steps").item() == processes * times
    assert lineage.verify() == []
