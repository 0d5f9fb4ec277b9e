# SPDX-License-Identifier: Apache-2.0
"""A run whose process is gone is told from one that works, without clocks or process numbers."""

from __future__ import annotations

import subprocess
import sys

from datapipe.lineage.store import Lineage

START = (
    "import os, sys\nfrom datapipe.lineage.store import Lineage\n"
    "made = Lineage(sys.argv[1])\n"
    "made.append([('runs', {'run_id': 'theirs'}), "
    "('run_events', {'run_id': 'theirs', 'event': 'started'})])\n"
    "print('started', flush=True)\nsys.stdin.read()\n"
)


def states(lineage: Lineage) -> dict[str, str]:
    return dict(lineage.sql("select run_id, state from run_status").rows())


def test_a_killed_run_is_abandoned_and_a_working_one_is_not(lineage: Lineage):
    lineage.append([("runs", {"run_id": "mine"})])
    lineage.append([("run_events", {"run_id": "mine", "event": "started"})])
    child = subprocess.Popen(
        [sys.executable, "-c", START, str(lineage.store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"started\n"
    assert states(lineage) == {"mine": "running", "theirs": "running"}
    child.kill()
    child.communicate()
    assert states(lineage) == {"mine": "running", "theirs": "abandoned"}
    assert states(Lineage(lineage.store)) == states(lineage)
    events = lineage.sql("select event from run_events where run_id = 'theirs' order by seq")
    assert events["event"].to_list() == ["started", "abandoned"]
    lineage.append([("run_events", {"run_id": "mine", "event": "finished"})])
    assert states(Lineage(lineage.store))["mine"] == "finished"
    assert list((lineage.store / "leases").iterdir()) == []
