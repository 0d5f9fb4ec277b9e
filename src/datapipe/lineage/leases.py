# SPDX-License-Identifier: Apache-2.0
"""Leases of running runs: how anybody can tell a run that is working from one whose process died.

A run holds a lock on a small file for as long as its process lives, whatever ends it; no clock, no
heartbeat and no process number is trusted. Whoever looks at the store next and finds a lease that
nobody holds records the run as abandoned.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from datapipe.errors import TrustError
from datapipe.manifest.plain import opened


class Leases:
    """The leases of one store, as far as this process holds or looks at them.

    Args:
        folder: Where the files are.

    Example:
        >>> import tempfile
        >>> leases = Leases(Path(tempfile.mkdtemp()))
        >>> leases.hold("r1")
        >>> leases.bury(print)
        >>> leases.close()
        >>> leases.bury(print)
        r1
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def hold(self, run_id: str) -> None:
        """Hold a run's lease until `let_go`, `close` or the end of the process.

        Args:
            run_id: The run.

        Example:
            >>> import tempfile
            >>> Leases(Path(tempfile.mkdtemp())).hold("r1")
        """
        if run_id in self._held:
            return
        self._folder.mkdir(exist_ok=True)
        descriptor = opened(self._file(run_id), os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.pwrite(descriptor, run_id.encode(), 0)
        self._held[run_id] = descriptor

    def let_go(self, run_id: str) -> None:
        """End a lease: the run has ended and said so.

        Args:
            run_id: The run.

        Example:
            >>> Leases(Path("nowhere")).let_go("r1")
        """
        if run_id in self._held:
            with contextlib.suppress(OSError):  # whoever finds it will find the run's end as well
                self._file(run_id).unlink(missing_ok=True)
            os.close(self._held.pop(run_id))

    def close(self) -> None:
        """Drop every lease that this process holds, without a word about its run.

        Example:
            >>> Leases(Path("nowhere")).close()
        """
        for run_id in list(self._held):
            os.close(self._held.pop(run_id))

    def living(self) -> list[str]:
        """Runs whose process still works, in this process or another.

        Returns:
            Their ids, sorted.

        Example:
            >>> import tempfile
            >>> leases = Leases(Path(tempfile.mkdtemp()))
            >>> leases.hold("r1")
            >>> leases.living()
            ['r1']
        """
        found: list[str] = []
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                with contextlib.suppress(FileNotFoundError, TrustError):  # no lease at all
                    descriptor = opened(path, os.O_RDWR)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        found.append(os.pread(descriptor, 4096, 0).decode(errors="replace"))
                    finally:
                        os.close(descriptor)
        return sorted(found)

    def bury(self, record: Callable[[str], None]) -> None:
        """Find runs whose process has gone, and have each recorded once.

        Args:
            record: Called with the run's id while its lease is locked; the lease goes only after
                it has returned.

        Example:
            >>> Leases(Path("nowhere")).bury(print)
        """
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            with contextlib.suppress(FileNotFoundError, BlockingIOError, TrustError):
                self._bury(path, record)

    def _bury(self, path: Path, record: Callable[[str], None]) -> None:
        descriptor = opened(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            run_id = os.pread(descriptor, 4096, 0).decode(errors="replace")
            same = path.stat().st_ino == os.fstat(descriptor).st_ino
            if run_id and same:  # an empty one is just being made
                record(run_id)
                path.unlink()
        finally:
            os.close(descriptor)

    def _file(self, run_id: str) -> Path:
        return self._folder / hashlib.sha256(run_id.encode()).hexdigest()[:24]
