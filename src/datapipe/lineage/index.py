# SPDX-License-Identifier: Apache-2.0
"""The index: the journal's records as DuckDB tables, always behind the journal and never before it.

It is opened for writing only for the moment in which it catches up, in one transaction that also
says how far it has come. Our own readers and writers wait for each other on a lock file of ours;
a foreign reader that holds the database only makes the index late, never a run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from datapipe.errors import DatapipeError, ExecutionError, TrustError
from datapipe.lineage import schema
from datapipe.lineage.durable import sync_folder
from datapipe.lineage.engine import QUIET, is_held, newer, sorted_error
from datapipe.lineage.erasures import Erasures, was_erased
from datapipe.lineage.journal import Journal
from datapipe.lineage.load import fill, make
from datapipe.lineage.locks import locked, mutex
from datapipe.lineage.objects import Objects
from datapipe.lineage.records import START, Mark


class Index:
    """The file `lineage.duckdb` of one store.

    Args:
        path: The file.
        journal: What it is made from.
        objects: Where the rows that records name are kept.

    Example:
        >>> import tempfile
        >>> home = Path(tempfile.mkdtemp())
        >>> index = Index(home / "i.duckdb", Journal(home), Objects(home / "o", home / "t"))
        >>> index.catch_up()
        True
    """

    def __init__(self, path: Path, journal: Journal, objects: Objects) -> None:
        self.path = path
        self._journal = journal
        self._objects = objects
        self._lock = path.with_suffix(".lock")
        self._seen: tuple[int, tuple[int, ...]] | None = None

    def catch_up(self, *, wait_s: float = 1.0) -> bool:
        """Add what the journal has and the index has not, in one transaction.

        Args:
            wait_s: How long to wait for readers that hold the index, in seconds.

        Returns:
            Whether the index is now as far as the journal was at the time of the call.

        Raises:
            TrustError: Journal, index or a recorded object is damaged.
            ExecutionError: The disk is full or the index was written by a newer datapipe.

        Example:
            >>> import tempfile
            >>> home = Path(tempfile.mkdtemp())
            >>> Index(home / "i.duckdb", Journal(home), Objects(home, home)).catch_up(wait_s=0)
            True
        """
        tail = self._journal.tail().mark
        if self._seen == (tail.seq, self._identity()):
            return True
        deadline = time.monotonic() + wait_s
        try:
            with self._alone(deadline):
                tail = self._journal.tail().mark  # while we waited others may have gone on
                self._add(tail, deadline)
                self._seen = (tail.seq, self._identity())
        except _HeldError:
            return False
        return True

    def rebuild(self, *, wait_s: float = 60.0) -> None:
        """Make the index anew from the journal, beside the old one, and put it in its place.

        Args:
            wait_s: How long to wait for our own readers, in seconds.

        Raises:
            TrustError: Journal or a recorded object is damaged.
            ExecutionError: The disk is full, or readers held the index all the time.

        Example:
            >>> import tempfile
            >>> home = Path(tempfile.mkdtemp())
            >>> Index(home / "i.duckdb", Journal(home), Objects(home, home)).rebuild()
        """
        try:
            with self._alone(time.monotonic() + wait_s):
                self._rebuild(self._journal.tail().mark)
        except _HeldError as held:
            raise ExecutionError(
                f"{self.path} is held by a reader; waited {wait_s:g} s",
                code="DP-EXEC-050",
                hint="let it finish and try again",
            ) from held

    @contextlib.contextmanager
    def reading(self, *, wait_s: float = 60.0) -> Iterator[None]:
        """Keep our own writers out while the index is read.

        Args:
            wait_s: Longest wait in seconds.

        Yields:
            Nothing.

        Raises:
            ExecutionError: A writer held it all the time.

        Example:
            >>> import tempfile
            >>> home = Path(tempfile.mkdtemp())
            >>> with Index(home / "i.duckdb", Journal(home), Objects(home, home)).reading():
            ...     pass
        """
        own = mutex(self.path)
        if not own.acquire(timeout=wait_s):
            raise ExecutionError(
                f"{self.path} is in use by another thread; waited {wait_s:g} s",
                code="DP-EXEC-050",
                hint="let it finish and try again",
            )
        try:
            with locked(self._lock, shared=True, wait_s=wait_s):
                yield
        finally:
            own.release()

    def _identity(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return ()
        return (found.st_ino, found.st_size, found.st_mtime_ns)

    @contextlib.contextmanager
    def _alone(self, deadline: float) -> Iterator[None]:
        """Keep readers and writers of ours out, or give up."""
        own = mutex(self.path)
        if not own.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise _HeldError
        try:
            with contextlib.ExitStack() as stack:
                try:
                    wait_s = max(0.0, deadline - time.monotonic())
                    stack.enter_context(locked(self._lock, wait_s=wait_s))
                except ExecutionError as busy:
                    if busy.code != "DP-EXEC-050":
                        raise
                    raise _HeldError from busy
                yield
        finally:
            own.release()

    def _add(self, until: Mark, deadline: float) -> None:
        if not self.path.exists():  # made beside its place: half an index is never seen
            self._rebuild(until)
            return
        with self._writer(deadline) as connection:
            at, current = _position(connection, self.path)
            if current:
                if at.seq > until.seq or (at.seq == until.seq and at.chain != until.chain):
                    raise _ahead(self.path, at.seq, until.seq)
                if at.seq < until.seq or at == START:
                    self._fill(connection, at, until)
        if not current:
            self._rebuild(until)

    def _rebuild(self, until: Mark) -> None:
        partial = self.path.with_suffix(".partial")
        for stale in (partial, partial.with_name(partial.name + ".wal")):
            stale.unlink(missing_ok=True)
        try:
            with _translated(self.path), contextlib.closing(_connect(partial)) as connection:
                make(connection)
                self._fill(connection, START, until)
        except DatapipeError:
            partial.unlink(missing_ok=True)
            raise
        partial.replace(self.path)
        self.path.with_name(self.path.name + ".wal").unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def _fill(self, connection: duckdb.DuckDBPyConnection, after: Mark, until: Mark) -> None:
        connection.execute("begin")
        erasures = None
        if was_erased(self.path.parent):
            erasures = Erasures(self._journal.read(until=until))
        fill(connection, self._journal.read(after, until), self._objects, erasures)
        connection.execute(
            "insert into meta values (?, ?, ?, ?, ?, ?, ?)",
            [
                until.seq,
                until.segment,
                until.offset,
                until.chain.hex(),
                schema.VERSION,
                schema.fingerprint(),
                datetime.now(UTC).replace(tzinfo=None),
            ],
        )
        connection.execute("commit")

    @contextlib.contextmanager
    def _writer(self, deadline: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """The database opened for writing; its file is closed again when the block ends."""
        with _translated(self.path):
            while True:
                try:
                    connection = _connect(self.path)
                    break
                except duckdb.Error as error:
                    if not is_held(error):
                        raise
                    if time.monotonic() >= deadline:
                        raise _HeldError from error
                    time.sleep(0.02)
            with contextlib.closing(connection):
                yield connection


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    """One thread: several compress each block twice and pack it half as well (measured)."""
    return duckdb.connect(str(path), config=QUIET | {"threads": "1"})


def _position(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[Mark, bool]:
    """How far the index has come, and whether its tables are those of this version."""
    newest = connection.execute(
        'select seq, segment, "offset", chain, schema_version, fingerprint from meta '
        "order by schema_version desc, seq desc limit 1"
    ).fetchone()
    if newest is None:
        return START, True
    seq, segment, offset, chain, version, fingerprint = newest
    if version > schema.VERSION:
        raise newer(path, version)
    mark = Mark(segment, offset, seq, bytes.fromhex(chain))
    return mark, (version, fingerprint) == (schema.VERSION, schema.fingerprint())


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """DuckDB's errors while an index is written, as ours."""
    try:
        yield
    except DatapipeError:
        raise
    except duckdb.Error as error:
        raise sorted_error(error, path) from error


def _ahead(path: Path, indexed: int, recorded: int) -> TrustError:
    return TrustError(
        f"{path} knows {indexed} records, the journal has {recorded} or other ones",
        code="DP-TRUST-706",
        hint="restore journal/ from a copy, or take the journal as it is with "
        "`datapipe lineage rebuild`",
        path=str(path),
    )


class _HeldError(Exception):
    """A reader holds the index; the caller decides whether that matters."""
