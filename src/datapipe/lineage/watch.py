# SPDX-License-Identifier: Apache-2.0
"""Stopping a question: at its time limit, and at Ctrl-C.

DuckDB looks for signals between its tasks, which may be minutes apart, and Python handles them only
when DuckDB returns. But the signal itself writes a byte into a pipe at once, whatever the main
thread is doing; a thread that sleeps on that pipe tells DuckDB to stop. The same thread keeps time,
and looks at the memory of the process: DuckDB does not count what one call of a function makes.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from datapipe.errors import ExecutionError
from datapipe.lineage.duck import duckdb

GRACE_S = 0.7
"""How long DuckDB may take to hear; one call of a function on one huge value hears nothing."""

AGAIN_S = 0.05

LOOK_S = 0.1
"""How often the memory of the process is looked at."""


class Watch:
    """Whoever watches one question.

    Args:
        connection: Where it is asked.
        seconds: How long it may take.
        most_bytes: By how much the process may grow meanwhile.

    Example:
        >>> with duckdb.connect() as connection:
        ...     Watch(connection, 60.0).cause is None
        True
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, seconds: float, most_bytes: int = 1 << 62
    ) -> None:
        self.cause: ExecutionError | KeyboardInterrupt | None = None
        self._connection = connection
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._began_with = resident_bytes()
        self._over = threading.Event()
        self._over_read, self._over_write = os.pipe()

    def until_over(self, signals: int | None, forward: int) -> None:
        """Sleep until the question is over, and stop it when it is late or somebody wants it to be.

        Args:
            signals: Where the numbers of signals arrive, a byte each; None for nowhere.
            forward: Who else reads those bytes; -1 for nobody.

        Example:
            >>> with duckdb.connect() as connection:
            ...     watch = Watch(connection, 60.0)
            ...     watch.end()
            ...     watch.until_over(None, -1)
            ...     watch.cause is None
            True
        """
        sources = [self._over_read] if signals is None else [self._over_read, signals]
        deadline = time.monotonic() + self._seconds
        while self.cause is None:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select(sources, [], [], min(LOOK_S, left))
            if self._over_read in ready:
                return
            if not ready:
                self.cause = self._too_much(left)
            elif signal.SIGINT in _passed_on(signals, forward):
                self.cause = KeyboardInterrupt()
        self._insist(self.cause)

    def _too_much(self, left_s: float) -> ExecutionError | None:
        if left_s <= 0:
            return _late(self._seconds)
        grown = resident_bytes() - self._began_with
        return too_large(f"{self._most_bytes / 1e9:.1f} GB") if grown > self._most_bytes else None

    def end(self) -> None:
        """The question is over.

        Example:
            >>> with duckdb.connect() as connection:
            ...     Watch(connection, 60.0).end()
        """
        self._over.set()
        os.write(self._over_write, b".")

    def close(self) -> None:
        """Let go of its pipe, after `end` and when nobody sleeps on it any more.

        Example:
            >>> with duckdb.connect() as connection:
            ...     Watch(connection, 60.0).close()
        """
        os.close(self._over_read)
        os.close(self._over_write)

    def _insist(self, cause: BaseException) -> None:
        """Say it until it is heard: a connection that is busy planning may refuse to listen."""
        deaf_at = time.monotonic() + GRACE_S
        while not self._over.is_set():
            with contextlib.suppress(duckdb.Error):
                self._connection.interrupt()
            self._over.wait(AGAIN_S)
            if _last_resort is not None and time.monotonic() > deaf_at:
                _last_resort(cause)


@contextlib.contextmanager
def watched(
    connection: duckdb.DuckDBPyConnection, seconds: float, most_bytes: int = 1 << 62
) -> Iterator[Watch]:
    """Stop what the block asks of DuckDB when it takes too much or Ctrl-C is pressed.

    Args:
        connection: Where it is asked.
        seconds: How long it may take, wall time.
        most_bytes: By how much the process may grow meanwhile.

    Yields:
        Whoever watches; its `cause` is what to raise when a question was stopped.

    Example:
        >>> with duckdb.connect() as connection, watched(connection, 60.0) as watch:
        ...     connection.execute("select 1").fetchall(), watch.cause
        ([(1,)], None)
    """
    with _signals() as (signals, forward):
        watch = Watch(connection, seconds, most_bytes)
        thread = threading.Thread(target=watch.until_over, args=(signals, forward), daemon=True)
        thread.start()
        try:
            yield watch
        finally:
            watch.end()
            thread.join()
            watch.close()


@contextlib.contextmanager
def last_resort(act: Callable[[BaseException], object]) -> Iterator[None]:
    """Say what becomes of the process while a question does not hear that it should stop.

    Only a process that exists for that question may end itself; a library may not.

    Args:
        act: Called in a thread of its own with what would have been raised.

    Yields:
        Nothing.

    Example:
        >>> with last_resort(print):
        ...     pass
    """
    global _last_resort  # noqa: PLW0603 - of the process, as its end would be
    _last_resort, before = act, _last_resort
    try:
        yield
    finally:
        _last_resort = before


_last_resort: Callable[[BaseException], object] | None = None


@contextlib.contextmanager
def _signals() -> Iterator[tuple[int | None, int]]:
    """A pipe that the numbers of signals arrive in; only the main thread may ask for it."""
    if threading.current_thread() is not threading.main_thread():
        yield None, -1
        return
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read, before
    finally:
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)


def _passed_on(signals: int | None, forward: int) -> bytes:
    if signals is None:
        return b""
    numbers = os.read(signals, 64)
    if forward >= 0:
        with contextlib.suppress(OSError):
            os.write(forward, numbers)
    return numbers


def resident_bytes() -> int:
    """How much memory this process holds; where a system does not say, the most it ever held.

    Returns:
        Bytes.

    Example:
        >>> resident_bytes() > 1_000_000
        True
    """
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def too_large(most: str) -> ExecutionError:
    """The refusal of a question that needs too much memory.

    Args:
        most: How much it may have.

    Returns:
        The error to raise.

    Example:
        >>> too_large("2GB").code
        'DP-EXEC-055'
    """
    return ExecutionError(
        f"the question needs more than {most} of memory",
        code="DP-EXEC-055",
        hint="ask for less: a filter on run_id or row_id helps most",
    )


def _late(seconds: float) -> ExecutionError:
    return ExecutionError(
        f"the question took longer than {seconds:g} s",
        code="DP-EXEC-055",
        hint="ask for less: a filter on run_id or row_id helps most",
    )
