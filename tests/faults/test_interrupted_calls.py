# SPDX-License-Identifier: Apache-2.0
"""ST5: writes that take half of what they are given, calls that are interrupted: same bytes."""

from __future__ import annotations

import errno
import random
from pathlib import Path
from typing import Any

import pytest

COUNT, FAIL_ONCE, SHORT_ON, INTERRUPT_ON = 0, 4, 6, 7


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_short_writes_and_interrupted_calls_change_no_byte(worker: Any, tmp_path: Path, sweeps):
    source, log = tmp_path / "one.csv", tmp_path / "log"
    rows = [f"{i * 37 % 100},{i},text {i % 700},{i % 3}" for i in range(900)]
    source.write_text("\n".join(["a,b,t,y", *rows]) + "\n")
    ways = {"whole": {"action": COUNT, "at": 1, "log": log}}
    ways["short"] = {"action": SHORT_ON, "at": 1}
    ways["interrupted"] = {"action": INTERRUPT_ON, "at": 1}  # every other call but DuckDB's own
    made: dict[str, dict[str, Any]] = {}

    def run(name: str, how: dict[str, Any]) -> None:
        store, told = tmp_path / name, tmp_path / f"told-{name}"
        made[name] = worker.do("run", store, source=source, told=told, **how)
        assert made[name]["rc"] == 0, (name, how, made[name])
        found = worker.do("check", store, told=told)
        assert (found["problems"], found["lost"], found["torn"]) == ([], 0, 0), (name, found)
        for what in ("data", "model", "dropped", "trained"):
            assert made[name][what] == made["whole"][what], (name, what)
        objects = {p.name for p in (store / "objects").glob("*.parquet")}
        assert objects == {p.name for p in (tmp_path / "whole" / "objects").glob("*.parquet")}

    for name, how in ways.items():
        run(name, how)
    assert made["short"]["count"] > 1.5 * made["whole"]["count"]  # halves were written on and on
    calls = [line.split(" ", 2) for line in log.read_text().splitlines()]
    theirs = [int(n) for n, call, path in calls if "/lineage.partial" in path and call != "rename"]
    assert len(theirs) > 10
    for at in theirs if sweeps else random.Random(4).sample(theirs, 1):
        run(f"once-{at}", {"action": FAIL_ONCE, "at": at, "errno": errno.EINTR})
