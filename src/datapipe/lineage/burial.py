# SPDX-License-Identifier: Apache-2.0
"""Runs whose process is gone: whoever looks at the store next records that they were abandoned."""

from __future__ import annotations

from datapipe.lineage.journal import Journal
from datapipe.lineage.leases import Leases

_ENDS = ("finished", "stopped", "failed", "abandoned")


def bury(leases: Leases, journal: Journal) -> None:
    """Record, once, of each run whose process is gone that it was abandoned.

    A run that told its end first is left alone.

    Args:
        leases: The leases of the store.
        journal: Its journal.

    Raises:
        ExecutionError: The disk is full or failed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> home = Path(tempfile.mkdtemp())
        >>> dead = Leases(home / "leases")
        >>> dead.hold("r1")
        >>> dead.close()
        >>> journal = Journal(home)
        >>> bury(Leases(home / "leases"), journal)
        >>> [record.body["event"] for record in journal.read()]
        ['abandoned']
    """
    leases.bury(lambda run_id: _abandoned(journal, run_id))


def _abandoned(journal: Journal, run_id: str) -> None:
    for record in journal.read(until=journal.tail().mark):
        mine = record.is_of("run_events") and record.body.get("run_id") == run_id
        if mine and record.body.get("event") in _ENDS:
            return
    journal.append([("run_events", {"run_id": run_id, "event": "abandoned"})])
