# SPDX-License-Identifier: Apache-2.0
"""Locks that die with their holder: `flock` on a file, with a limit to every wait.

The kernel lets go of such a lock when a process ends in whatever way, so nobody ever has to delete
a stale one. Each use opens the file anew: a lock belongs to that open file, so threads exclude each
other too and a fork never shares one by accident.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from datapipe.errors import ExecutionError
from datapipe.manifest.plain import opened

FIRST_PAUSE_S = 0.0005
LONGEST_PAUSE_S = 0.02


@contextlib.contextmanager
def locked(path: Path, *, wait_s: float = 60.0, shared: bool = False) -> Iterator[None]:
    """Hold a lock file for the length of a block.

    Args:
        path: The lock file; made when absent.
        wait_s: Longest wait in seconds.
        shared: Whether others may hold it as well who say the same.

    Yields:
        Nothing.

    Raises:
        ExecutionError: Somebody else held it all the time, or the file cannot be opened.
        TrustError: It is no file.

    Example:
        >>> import tempfile
        >>> with locked(Path(tempfile.mkdtemp()) / "lock"):
        ...     print("alone")
        alone
    """
    try:
        descriptor = opened(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise failed(error, f"{path} cannot be opened for locking") from error
    try:
        _take(descriptor, path, wait_s, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        with contextlib.suppress(OSError):  # only read by whoever has to wait for us
            note = f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
            os.pwrite(descriptor, note.ljust(63).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, wait_s: float, how: int) -> None:
    pause, end = FIRST_PAUSE_S, time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                holder = os.pread(descriptor, 63, 0).decode(errors="replace").strip()
                raise ExecutionError(
                    f"{path} is held by {holder or 'another process'}; waited {wait_s:g} s",
                    code="DP-EXEC-050",
                    hint="let it finish, or end it, and try again",
                ) from None
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        else:
            return


def failed(error: OSError, what: str) -> ExecutionError:
    """An operating system's error as ours.

    Args:
        error: What the system said.
        what: What could not be done, where, and how many bytes it needed.

    Returns:
        The error to raise; a full disk has a code of its own.

    Example:
        >>> failed(OSError(28, "No space left on device"), "a.log").code
        'DP-EXEC-028'
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ExecutionError(
            f"disk full: {what}",
            code="DP-EXEC-028",
            hint="free some space and run again; what was recorded before is intact",
        )
    return ExecutionError(
        f"{what}: {error.strerror or error}",
        code="DP-EXEC-005",
        hint="see that the folder exists, is writable and that its disk is sound",
    )
