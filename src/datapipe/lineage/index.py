# SPDX-License-Identifier: Apache-2.0
"""The index: the journal's records as DuckDB tables, always behind the journal and never before it.

`lineage.duckdb` is never opened for writing. A committer brings a copy of it up to date in one
transaction that also says how far it has come, and renames the copy into its place: whoever has
the file open goes on reading what it was, whoever opens it next sees what it is. So no reader, of
ours or foreign, ever waits for a writer, and no writer for a reader.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from datapipe.errors import DatapipeError, ExecutionError, TrustError
from datapipe.lineage import schema
from datapipe.lineage.durable import sync_folder
from datapipe.lineage.engine import left_names, newer, other_name, sorted_error, started
from datapipe.lineage.erasures import Erasures, was_erased
from datapipe.lineage.journal import Journal
from datapipe.lineage.load import fill, make
from datapipe.lineage.locks import failed, locked
from datapipe.lineage.objects import Objects
from datapipe.lineage.records import START, Mark
from datapipe.manifest.plain import require

if TYPE_CHECKING:
    import duckdb

Done = TypeVar("Done")
INTERRUPTIONS = 3
"""How often an index is begun again after a signal interrupted a write."""

GROUP_ROWS = 16384
"""Rows that share one range of row ids: a look-up reads one such group. DuckDB takes 122,880; fewer
than this make the list of groups itself slow to read (measured on 23 million rows)."""

READ_ONLY = "read_only"
PRIVATE = f"row_group_size {GROUP_ROWS}, recovery_mode no_wal_writes"
"""A file that nobody sees before its checkpoint needs no log of its own to recover from."""


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
        self.lock = path.with_suffix(".lock")
        self._seen: tuple[int, tuple[int, ...]] | None = None

    def catch_up(self, *, wait_s: float = 10.0) -> bool:
        """Add what the journal has and the index has not, in one transaction.

        Args:
            wait_s: How long to wait for another committer, in seconds; mostly it does our work.

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
        if self._seen == (tail.seq, self.identity()):
            return True
        try:
            with locked(self.lock, wait_s=wait_s):
                seq = _uninterrupted(lambda: self._add(enough=tail))
                self._seen = (seq, self.identity())
        except ExecutionError as busy:
            if busy.code != "DP-EXEC-050":
                raise
            return False
        return True

    def rebuild(self, *, wait_s: float = 60.0, accept_loss: bool = False) -> None:
        """Make the index anew from the journal, beside the old one, and put it in its place.

        Args:
            wait_s: How long to wait for another committer, in seconds.
            accept_loss: Whether to leave out the rows of objects that are missing.

        Raises:
            TrustError: Journal or a recorded object is damaged.
            ExecutionError: The disk is full, or another committer was at work all the time.

        Example:
            >>> import tempfile
            >>> home = Path(tempfile.mkdtemp())
            >>> Index(home / "i.duckdb", Journal(home), Objects(home, home)).rebuild()
        """
        with locked(self.lock, wait_s=wait_s):
            self._keep_damaged()
            until = self._journal.tail().mark
            _uninterrupted(lambda: self._rebuild(until, accept_loss=accept_loss))

    def age(self) -> str:
        """How far behind the journal the published index is, in words.

        Returns:
            A sentence; empty when it has everything.

        Raises:
            TrustError: The index is damaged.

        Example:
            >>> import tempfile
            >>> home = Path(tempfile.mkdtemp())
            >>> index = Index(home / "i.duckdb", Journal(home), Objects(home, home))
            >>> index.catch_up(), index.age()
            (True, '')
        """
        with (
            _translated(self.path),
            other_name(self.path) as name,
            _engine() as connection,
            _attached(connection, name, READ_ONLY),
        ):
            at, _ = _position(connection, self.path)
            (written,) = connection.execute("select max(written_at) from meta").fetchall()[0]
        behind = sum(1 for _ in self._journal.read(at))
        if behind <= 0:
            return ""
        old = (datetime.now(UTC).replace(tzinfo=None) - written).total_seconds()
        taken = f"{written:%Y-%m-%d %H:%M:%S} UTC, {old:.0f} s old"
        return f"{self.path} is a snapshot of {taken}; records it does not know yet: {behind}"

    def identity(self) -> tuple[int, ...]:
        """Which of the published states the file is.

        Returns:
            Inode, size and time of its last change; empty when there is no index yet.

        Example:
            >>> import tempfile
            >>> home = Path(tempfile.mkdtemp())
            >>> Index(home / "i.duckdb", Journal(home), Objects(home, home)).identity()
            ()
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return ()
        return (found.st_ino, found.st_size, found.st_mtime_ns)

    def _add(self, *, enough: Mark) -> int:
        """Publish a copy that has everything; only under the lock.

        Whoever waited finds its records added by the one before it, and leaves it at that: one
        commit serves all who wait.
        """
        until = self._journal.tail().mark  # while we waited others may have gone on
        if not self.path.exists() or self._log_of(self.path).exists():
            self._rebuild(until)  # what another program wrote into it is not ours
            return until.seq
        with _translated(self.path), _engine() as connection:
            return self._go_on(connection, until, enough)

    def _go_on(self, connection: duckdb.DuckDBPyConnection, until: Mark, enough: Mark) -> int:
        at, current = self._published(connection)
        if current and (at.seq > until.seq or (at.seq == until.seq and at.chain != until.chain)):
            raise _ahead(self.path, at.seq, until.seq)
        if not current:
            self._renew(connection, until)
        elif at.seq >= enough.seq and at != START:
            return at.seq
        elif self._less_since(at, until):
            self._renew(connection, until)
        else:
            with self._made() as partial:
                shutil.copyfile(self.path, partial)
                with _attached(connection, partial):
                    self._fill(connection, at, until)
        return until.seq

    def _less_since(self, at: Mark, until: Mark) -> bool:
        """Whether an erasure took something from what the index holds, and did not live to say."""
        if not was_erased(self.path.parent):
            return False
        return any(record.is_of("erased") for record in self._journal.read(at, until))

    def _published(self, connection: duckdb.DuckDBPyConnection) -> tuple[Mark, bool]:
        """How far the published index has come, and whether its tables are of this version."""
        with other_name(self.path) as name, _attached(connection, name, READ_ONLY):
            return _position(connection, self.path)

    def _keep_damaged(self) -> None:
        """Give an index that cannot be read a second name, so that it can be looked at later."""
        try:
            if self.path.exists():
                with _translated(self.path), _engine() as connection:
                    self._published(connection)
        except TrustError:
            aside = self.path.with_suffix(".damaged")
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
                aside.hardlink_to(self.path)
        except ExecutionError:
            return

    def _rebuild(self, until: Mark, *, accept_loss: bool = False) -> None:
        with _translated(self.path), _engine() as connection:
            self._renew(connection, until, accept_loss=accept_loss)

    def _renew(
        self, connection: duckdb.DuckDBPyConnection, until: Mark, *, accept_loss: bool = False
    ) -> None:
        with self._made() as partial:
            made = _blanks[schema.fingerprint()].put(connection, partial)
            with _attached(connection, partial):
                if not made:
                    make(connection)
                self._fill(connection, START, until, accept_loss=accept_loss)

    @contextlib.contextmanager
    def _made(self) -> Iterator[Path]:
        """A name for the next index, which takes the place of the old one when the block ends."""
        partial = self.path.with_suffix(".partial")
        try:
            for stale in (partial, self._log_of(partial), *left_names(self.path)):
                stale.unlink(missing_ok=True)
            yield partial
            partial.replace(self.path)
            self._log_of(self.path).unlink(missing_ok=True)
            sync_folder(self.path.parent)
        except OSError as error:
            told = error.filename and self.path.name not in str(error.filename)
            where = f" from {error.filename}" if told else ""
            raise failed(error, f"{self.path} could not be written{where}") from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    @staticmethod
    def _log_of(path: Path) -> Path:
        return path.with_name(path.name + ".wal")

    def _fill(
        self,
        connection: duckdb.DuckDBPyConnection,
        after: Mark,
        until: Mark,
        *,
        accept_loss: bool = False,
    ) -> None:
        connection.execute("begin")
        erasures = None
        if was_erased(self.path.parent):
            erasures = Erasures(self._journal.read(until=until))
        records = self._journal.read(after, until)
        fill(connection, records, self._objects, erasures, accept_loss=accept_loss)
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


def _uninterrupted(work: Callable[[], Done]) -> Done:
    """Do it again when a signal interrupted a write: DuckDB gives up where others go on."""
    for _ in range(INTERRUPTIONS):
        try:
            return work()
        except ExecutionError as error:
            if os.strerror(errno.EINTR) not in error.message:
                raise
    return work()


@contextlib.contextmanager
def _engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with one thread: several compress each block twice and pack it half as well."""
    with contextlib.closing(started({"threads": "1"})) as connection:
        yield connection


@contextlib.contextmanager
def _attached(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    how: str = PRIVATE,
) -> Iterator[None]:
    """A file as the current database; after an error the engine is closed with it, unsaved."""
    require(path)
    quoted = str(path).replace("'", "''")
    connection.execute(f"attach '{quoted}' as lineage ({how})")
    connection.execute("use lineage")
    yield
    if how != READ_ONLY:
        connection.execute("checkpoint")  # else detaching does it, and hides what went wrong
    connection.execute("use memory")
    connection.execute("detach lineage")


@dataclass
class _Blank:
    """An index without a line: to bind every view anew takes longer than all else in a small run.

    Mostly a process makes one index, which is made in place; from the second on there is a copy.

    Args:
        wanted: Whether this process has begun an index before.
        copy: The bytes of an index without a line; empty until the second is made.
    """

    wanted: bool = False
    copy: bytes = b""

    def put(self, connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
        """Put one at a path; False for the first of a process, which is to be made in place."""
        if not self.wanted:
            self.wanted = True
            return False
        if self.copy:
            path.write_bytes(self.copy)
            return True
        with _attached(connection, path):
            make(connection)
        self.copy = path.read_bytes()
        return True


_blanks: defaultdict[str, _Blank] = defaultdict(_Blank)
"""By the fingerprint of its tables and views."""


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
    from datapipe.lineage.duck import duckdb  # noqa: PLC0415 - a run may leave it to others

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
