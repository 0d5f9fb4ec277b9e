# SPDX-License-Identifier: Apache-2.0
"""The disk is full, or fails, at the n-th call: a clear error, exit 6, nothing recorded is lost."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

COUNT, FAIL_ONCE, FAIL_ON = 0, 4, 5
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
    yield {"home": home, "calls": calls, "truth": truth}
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_a_failing_call_is_told_and_loses_nothing(place: dict[str, Any], worker: Any, sweeps, part):
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
    home: Path = place["home"]
    store, told, two = home / "store", home / "told", home / "two.csv"
    chosen = every[part] if sweeps else random.Random(2).sample(every, SAMPLE)
    for number, (at, way, fault) in enumerate(chosen, 1):
        shutil.rmtree(store)
        shutil.copytree(home / "used", store)
        shutil.copyfile(home / "used.told", told)
        how = {"source": two, "told": told, "at": at, "action": way, "errno": fault}
        answer = worker.do("run", store, **how)
        where = (at, place["calls"][at - 1], way, errno.errorcode[fault], answer)
        # a call that nothing depends on may fail unnoticed: the head, a cache, a late index
        assert answer["rc"] in (0, IO_FAILED), where
        if answer["rc"]:
            assert answer["code"].startswith("DP-EXEC-"), where
            full = fault == errno.ENOSPC
            assert not full or answer["message"].startswith("disk full"), where
        found = worker.do("check", store, told=told)
        assert found["rc"] == 0, (where, found)
        assert (found["problems"], found["lost"], found["torn"]) == ([], 0, 0), (where, found)
        again = worker.do("run", store, source=two, told=told)
        assert again["rc"] == 0, (where, again)
        for name in ("data", "model", "dropped", "trained"):
            assert again[name] == place["truth"][name], (where, name)
        assert worker.do("check", store, told=told, quick=True)["left"] == [], where
        print(f"{number} of {len(chosen)} faults, the last at {where[:4]}, rc {answer['rc']}")
