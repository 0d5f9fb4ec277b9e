# SPDX-License-Identifier: Apache-2.0
"""The index: the journal's records as DuckDB tables, always behind the journal and never before it.

It is opened for writing only for the moment in which it catches up, in one transaction that also
says how far it has come. Our own readers and writers wait for each other on a lock file of ours;
a foreign reader that holds the database only makes the index late, never a run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.core.digest import PREFIX, digest_file
from datapipe.errors import DatapipeError, ExecutionError, TrustError
from datapipe.lineage import schema
from datapipe.lineage.journal import START, Journal, Mark, Record, sync_folder
from datapipe.lineage.locks import locked, mutex
from datapipe.lineage.objects import Objects, bare

LINES_AT_ONCE = 20_000
QUIET: dict[str, Any] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
"""No connection of ours ever looks for an extension elsewhere."""

_ARROW = {
    "varchar": pa.string(),
    "json": pa.string(),
    "boolean": pa.bool_(),
    "bigint": pa.int64(),
    "ubigint": pa.uint64(),
    "double": pa.float64(),
    "timestamp": pa.timestamp("us"),
}


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
        with _translated(self.path), contextlib.closing(_connect(partial)) as connection:
            make(connection)
            self._fill(connection, START, until)
        partial.replace(self.path)
        self.path.with_name(self.path.name + ".wal").unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def _fill(self, connection: duckdb.DuckDBPyConnection, after: Mark, until: Mark) -> None:
        connection.execute("begin")
        fill(connection, self._journal.read(after, until), self._objects)
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
                if not connection.execute("from duckdb_tables()").fetchall():
                    make(connection)
                yield connection


def make(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the promised tables and views in an empty database.

    Args:
        connection: Open for writing.

    Example:
        >>> with duckdb.connect() as connection:
        ...     make(connection)
        ...     connection.sql("select count(*) from dropped_rows").fetchall()
        [(0,)]
    """
    connection.execute("begin")
    connection.execute(schema.text("schema.sql"))
    connection.execute(schema.text("views.sql"))
    connection.execute("commit")


def fill(
    connection: duckdb.DuckDBPyConnection, records: Iterable[Record], objects: Objects
) -> None:
    """Add records to the tables, each to its own and to the log.

    Args:
        connection: Open for writing, within a transaction.
        records: Records of the journal.
        objects: Where the rows that records name are kept.

    Raises:
        TrustError: An object that a record names is missing or damaged.

    Example:
        >>> with duckdb.connect() as connection:
        ...     make(connection)
        ...     fill(connection, [], Objects(Path("nowhere"), Path("nowhere")))
    """
    held: dict[str, list[dict[str, Any]]] = {}
    loaded = set(
        connection.execute("select distinct model_id, held_out_object from models").fetchall()
    )
    for record in records:
        kind, body = record.kind, record.body
        line = schema.cells(kind, body, seq=record.seq, recorded_at=record.recorded_at)
        if kind in schema.FROM_OBJECT:
            _insert_object(connection, kind, line | {"object": body.get("object")}, objects)
        else:
            held.setdefault(kind, []).append(line)
        if kind == "models" and (line["model_id"], line["held_out_object"]) not in loaded:
            loaded.add((line["model_id"], line["held_out_object"]))
            named = line | {"object": line["held_out_object"]}
            _insert_object(connection, "model_held_out", named, objects)
        entry = {"seq": record.seq, "kind": kind, "leaf": record.leaf.hex()}
        entry["recorded_at"] = schema.moment(record.recorded_at)
        held.setdefault("log_entries", []).append(entry)
        if len(held["log_entries"]) >= LINES_AT_ONCE:
            _insert(connection, held)
    _insert(connection, held)


def object_columns(kind: str) -> tuple[str, ...]:
    """The columns of a table whose values stand in a Parquet object.

    Args:
        kind: Name of a table.

    Returns:
        Their names, `row_id` first; empty for a table that holds its own values.

    Example:
        >>> object_columns("row_drops"), object_columns("runs")
        (('row_id', 'reason'), ())
    """
    return ("row_id",) if kind == "model_held_out" else schema.FROM_OBJECT.get(kind, ())


def is_held(error: duckdb.Error) -> bool:
    """Whether DuckDB could not open a file because somebody else has it open.

    Args:
        error: What it raised.

    Returns:
        True when waiting may help.

    Example:
        >>> is_held(duckdb.IOException("Could not set lock on file"))
        True
    """
    text = str(error)
    return any(
        words in text
        for words in ("Could not set lock", "different configuration", "already attached")
    )


def _insert(connection: duckdb.DuckDBPyConnection, held: dict[str, list[dict[str, Any]]]) -> None:
    for kind, lines in held.items():
        columns = schema.tables()[kind].columns
        fields = pa.schema([(c.name, _ARROW[c.type]) for c in columns])
        connection.register("new_lines", pa.Table.from_pylist(lines, schema=fields))
        connection.execute(f"insert into {kind} by name from new_lines")
        connection.unregister("new_lines")
    held.clear()


def _insert_object(
    connection: duckdb.DuckDBPyConnection, kind: str, line: dict[str, Any], objects: Objects
) -> None:
    """Add the rows of an object that a record names; only after its digest was checked."""
    if not line["object"]:
        return
    path = sound_object(objects, line["object"], f"{kind} of record {line['seq']}")
    there = set(pq.read_schema(path).names)
    parts: list[str] = []
    values: dict[str, Any] = {}
    for column in schema.tables()[kind].columns:
        if column.name in object_columns(kind) and column.name in there:
            parts.append(f'"{column.name}"::{column.type}')
        else:
            parts.append(f"${column.name}::{column.type}")
            values[column.name] = line.get(column.name)
    wanted = " where flagged or action <> ''" if kind == "row_findings" else ""
    quoted = str(path).replace("'", "''")
    rows = f"select {', '.join(parts)} from read_parquet('{quoted}'){wanted}"  # noqa: S608 - our names
    connection.execute(f"insert into {kind} {rows}", values)


def sound_object(objects: Objects, digest: str, named_by: str) -> Path:
    """The path of an object whose bytes still have the digest it is named by.

    Args:
        objects: The store's objects.
        digest: The digest a record names.
        named_by: Which record, for the message.

    Returns:
        Its path.

    Raises:
        TrustError: It is missing or its bytes have changed.

    Example:
        >>> import tempfile
        >>> home = Path(tempfile.mkdtemp())
        >>> objects = Objects(home / "objects", home / "tmp")
        >>> sound_object(objects, objects.put_bytes(b"abc")[0], "a test").is_file()
        True
    """
    path = objects.find(digest)
    if path is None:
        raise TrustError(
            f"objects/{bare(digest)} is missing, named by {named_by}",
            code="DP-TRUST-703",
            hint="restore it from a copy of the store",
            path=f"objects/{bare(digest)}",
        )
    if digest_file(path) != PREFIX + bare(digest):
        raise TrustError(
            f"{path} does not have the digest it is named by",
            code="DP-TRUST-704",
            hint="restore it from a copy of the store",
            path=str(path),
        )
    return path


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


def newer(path: Path, version: int) -> ExecutionError:
    """The refusal of what a later datapipe wrote.

    Args:
        path: The file.
        version: Its version.

    Returns:
        The error to raise.

    Example:
        >>> newer(Path("lineage.duckdb"), 9).message
        'lineage.duckdb has version 9, this datapipe reads up to 1'
    """
    return ExecutionError(
        f"{path} has version {version}, this datapipe reads up to {schema.VERSION}",
        code="DP-EXEC-053",
        hint="use the datapipe that wrote it, or a later one",
    )


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """DuckDB's errors while an index is written, as ours."""
    try:
        yield
    except DatapipeError:
        raise
    except duckdb.Error as error:
        raise sorted_error(error, path) from error


def sorted_error(error: Exception, path: Path) -> DatapipeError:
    """What an error of DuckDB about a file means for whoever called.

    Args:
        error: What DuckDB raised.
        path: The index.

    Returns:
        The error to raise.

    Example:
        >>> sorted_error(duckdb.IOException("No space left on device"), Path("a")).code
        'DP-EXEC-028'
    """
    text = str(error).splitlines()[0]
    if "No space left" in text or "disk full" in text.lower():
        return ExecutionError(
            f"disk full: {path} could not be written",
            code="DP-EXEC-028",
            hint="free some space and run again; what was recorded before is intact",
        )
    if isinstance(error, duckdb.Error) and is_held(error):
        return ExecutionError(
            f"{path} is held by another program: {text}",
            code="DP-EXEC-050",
            hint="close the program that has it open for writing",
        )
    return TrustError(
        f"{path} cannot be read: {text}",
        code="DP-TRUST-705",
        hint="make it again from the journal with `datapipe lineage rebuild`",
        path=str(path),
    )


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
