# SPDX-License-Identifier: Apache-2.0
"""The disk is full, or fails, at the n-th call: a clear error, exit 6, nothing recorded is lost.

`make faults` fails every call of a run in three ways, `FAULTS_PART=k/n` a part of them; it tells
which calls failed how and whether the run could go on, and keeps that with `FAULTS_KEEP=folder`.
"""

from __future__ import annotations

import errno
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COUNT, FAIL_ONCE, FAIL_ON = 0, 4, 5
TIMES = {FAIL_ONCE: "once", FAIL_ON: "from then on"}
SAMPLE = 2
CALLS = ("write", "pwrite", "writev", "copy", "fsync", "ftruncate", "rename", "mkdir", "link")
IO_FAILED = 6


@pytest.fixture(scope="module")
def place(worker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A store in use, a new input, the calls that a run on it makes, and where that leads."""
    home = tmp_path_factory.mktemp("disk")
    for name, first in (("one", 0), ("two", 5000)):
        rows = [f"{i * 37 % 100},{i},text {i % 700},{i % 3}" for i in range(first, first + 900)]
        (home / f"{name}.csv").write_text("\n".join(["a,b,t,y", *rows]) + "\n")
    used = home / "used"
    assert worker.do("run", used, source=home / "one.csv", told=home / "used.told")["rc"] == 0
    shutil.copytree(used, home / "store")
    log, two = home / "log", home / "two.csv"
    truth = worker.do("run", home / "store", source=two, action=COUNT, log=log)
    assert truth["rc"] == 0, truth
    calls = [line.split()[1] for line in log.read_text().splitlines()]
    steps = [worker.step(line) for line in log.read_text().splitlines()]
    yield {"home": home, "calls": calls, "steps": steps, "truth": truth}
    shutil.rmtree(home, ignore_errors=True)


def fails(place: dict[str, Any], worker: Any, at: int, way: int, fault: int) -> str:
    """Fail a call of a run, then look, then run again unharmed; how the failing run ended."""
    home: Path = place["home"]
    store, told, two = home / "store", home / "told", home / "two.csv"
    shutil.rmtree(store)
    shutil.copytree(home / "used", store)
    shutil.copyfile(home / "used.told", told)
    how = {"source": two, "told": told, "at": at, "action": way, "errno": fault}
    answer = worker.do("run", store, **how)
    # a call that nothing depends on may fail unnoticed: the head, a cache, a late index
    assert answer["rc"] in (0, IO_FAILED), answer
    if answer["rc"]:
        assert answer["code"].startswith("DP-EXEC-"), answer
        full = fault == errno.ENOSPC
        assert not full or answer["message"].startswith("disk full"), answer
    found = worker.do("check", store, told=told)
    assert found["rc"] == 0, (answer, found)
    assert (found["problems"], found["lost"], found["torn"]) == ([], 0, 0), (answer, found)
    again = worker.do("run", store, source=two, told=told)
    assert again["rc"] == 0, (answer, again)
    for name in ("data", "model", "dropped", "trained"):
        assert again[name] == place["truth"][name], (answer, name)
    assert worker.do("check", store, told=told, quick=True)["left"] == [], answer
    return "told" if answer["rc"] else "the run goes on"


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_a_failing_call_is_told_and_loses_nothing(
    place: dict[str, Any],
    worker: Any,
    sweeps,
    part,
    record_property: Callable[[str, object], None],
):
    """Every call once (a passing fault), and all calls from it on (a disk that stays full)."""
    every = [
        (at, way, fault)
        for at, call in enumerate(place["calls"], 1)
        if call in CALLS
        for way, fault in (
            (FAIL_ON, errno.ENOSPC),
            (FAIL_ONCE, errno.EIO),
            (FAIL_ONCE, errno.ENOSPC),
        )
    ]
    chosen = every[part] if sweeps else random.Random(2).sample(every, SAMPLE)
    failed = Counter[str]()
    wrong: list[str] = []
    for number, (at, way, fault) in enumerate(chosen, 1):
        where = f"{place['steps'][at - 1]}, {errno.errorcode[fault]} {TIMES[way]}"
        try:
            ended = fails(place, worker, at, way, fault)
        except AssertionError as error:  # the others have their turn all the same
            ended = "wrong"
            wrong.append(f"call {at}: {where}: {error}")
        failed[f"run, store in use: run: {where} ({ended})"] += 1
        print(f"{number} of {len(chosen)} faults, call {at}: {where}: {ended}")
    if sweeps:
        record_property("failures", dict(failed))
    assert not wrong, "\n".join(wrong)
