# SPDX-License-Identifier: Apache-2.0
"""Questions in SQL by people and scripts nobody vouches for.

The index is attached read-only to an empty database in memory; then files, network, extensions and
settings are locked for good, and only statements that ask are let through. Time, memory and the
size of the answer are limited, and nothing is ever spilled to disk.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from datapipe.errors import DatapipeError, DeclarationError, ExecutionError
from datapipe.lineage.answer import framed
from datapipe.lineage.duck import duckdb
from datapipe.lineage.engine import is_held, other_name, sorted_error, started
from datapipe.lineage.fatal import refuse_fatal
from datapipe.lineage.index import Index
from datapipe.lineage.narrowed import narrowed
from datapipe.lineage.watch import too_large, watched
from datapipe.manifest.plain import require

Kept = TypeVar("Kept")
_ASKING = ("SELECT", "EXPLAIN")
_APART = r"(?:\s|--[^\n]*(?:\n|$)|/\*(?:(?!/\*).)*?\*/)*"
_EXPLAIN = re.compile(
    rf"^{_APART}explain\b{_APART}(?:analyze\b|\([^()]*\))?", re.IGNORECASE | re.DOTALL
)
"""The words before what is explained; where they are not understood the whole is refused."""
_MISTAKES = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.InvalidInputException,
    duckdb.InvalidTypeException,
    duckdb.NotImplementedException,
    duckdb.OutOfRangeException,
    duckdb.ParserException,
    duckdb.PermissionException,
    duckdb.SyntaxException,
    duckdb.TransactionException,
    duckdb.TypeMismatchException,
)
"""What whoever asks can mend; any other error is about the file."""


@dataclass(frozen=True)
class Limits:
    """How much one question may use.

    Args:
        seconds: Wall time, > 0.
        memory: Memory of the engine, such as `2GB`.
        answer_bytes: Size of the answer in memory.
        wait_s: How long to wait for a foreign writer, in seconds.
        threads: Threads of the engine, >= 1.
        process_bytes: By how much the process may grow meanwhile: what one call of a function makes
            is in nobody's count. A process that is there for the question alone then ends.

    Example:
        >>> Limits(seconds=5).memory
        '2GB'
    """

    seconds: float = 60.0
    memory: str = "2GB"
    answer_bytes: int = 1 << 30
    wait_s: float = 30.0
    threads: int = 4
    process_bytes: int = 4 << 30


def ask(
    path: Path, query: str, values: Mapping[str, object], limits: Limits = Limits()
) -> pl.DataFrame:
    """Answer one question about an index.

    Args:
        path: The index.
        query: One statement that asks; `from dropped_rows` will do.
        values: Values of its `$name` parameters.
        limits: How much it may use.

    Returns:
        The rows.

    Raises:
        DeclarationError: It is not one question, or SQL that cannot be understood.
        ExecutionError: A limit was reached, or somebody else holds the index.
        TrustError: The index is damaged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.duckdb"
        >>> duckdb.connect(str(path)).close()
        >>> ask(path, "select $n + 1 as more", {"n": 1}).item()
        2
    """
    with opened(path, limits) as connection:
        return answered(connection, path, query, values, limits)


def answered(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    query: str,
    values: Mapping[str, object],
    limits: Limits = Limits(),
) -> pl.DataFrame:
    """Answer one question in a cell that is open already.

    Args:
        connection: From `opened`, with the same limits.
        path: The index, for messages.
        query: One statement that asks.
        values: Values of its `$name` parameters.
        limits: How much it may use.

    Returns:
        The rows.

    Raises:
        DeclarationError: It is not one question, or SQL that cannot be understood.
        ExecutionError: A limit was reached, or DuckDB itself failed.
        KeyboardInterrupt: Ctrl-C was pressed.
        TrustError: The index is damaged.

    Example:
        >>> with duckdb.connect() as connection:
        ...     answered(connection, Path("a.duckdb"), "select 1 as one", {}).item()
        1
    """
    importlib.import_module("duckdb")  # gives connections their `sql`
    _refuse_orders(connection, query)
    refuse_fatal(query)
    with watched(connection, limits.seconds, limits.process_bytes) as watch:
        try:
            asked, given = narrowed(connection, query, values)
            relation = connection.sql(asked, params=dict(given) or None)
            return framed(relation, limits.answer_bytes)
        except (duckdb.Error, OSError, RuntimeError) as error:
            if watch.cause is not None:
                raise watch.cause from error
            if "interrupted" in str(error).lower():  # DuckDB may take Ctrl-C for itself
                raise KeyboardInterrupt from error
            if isinstance(error, RuntimeError):
                raise
            raise _sorted(error, path, limits) from error


class Cell:
    """One locked connection, kept between questions for as long as the index stays the same.

    A published index never changes, so nothing an earlier question did can be seen by a later one;
    after any error the connection is dropped all the same.

    Args:
        index: The index.

    Example:
        >>> import tempfile
        >>> from datapipe.lineage.store import Lineage
        >>> store = Lineage(tempfile.mkdtemp(), create=True)
        >>> store.index()
        True
        >>> with Cell(store._index).asking() as connection:
        ...     connection.execute("select count(*) from runs").fetchall()
        [(0,)]
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._alone = threading.RLock()
        self._held: tuple[tuple[int, ...], contextlib.ExitStack, duckdb.DuckDBPyConnection] | None
        self._held = None
        self._kept: Any = None
        _cells.add(self)

    @contextlib.contextmanager
    def asking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The index as it is now, for one question or several.

        Yields:
            A connection in which the index is the current database.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> store = Lineage(tempfile.mkdtemp(), create=True)
            >>> _ = store.index()
            >>> with Cell(store._index).asking() as connection:
            ...     connection.execute("select 1").fetchall()
            [(1,)]
        """
        with self._alone:
            connection = self._connection()
            try:
                yield connection
            except BaseException:
                self.close()
                raise

    def kept(self, read: Callable[[], Kept]) -> Kept:
        """Something read once from this state of the index; only while asking.

        Args:
            read: Reads it.

        Returns:
            What it gave the first time.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> cell = Cell(Lineage(tempfile.mkdtemp(), create=True)._index)
            >>> cell.kept(lambda: 1), cell.kept(lambda: 2)
            (1, 1)
        """
        if self._kept is None:
            self._kept = read()
        found: Kept = self._kept
        return found

    def close(self) -> None:
        """Let go of the connection; the next question opens a new one.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> Cell(Lineage(tempfile.mkdtemp(), create=True)._index).close()
        """
        with self._alone:
            if self._held is not None:
                self._held[1].close()
                self._held = self._kept = None

    def before_fork(self) -> None:
        """A child must not inherit an engine whose threads it does not have.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> Cell(Lineage(tempfile.mkdtemp(), create=True)._index).before_fork()
        """
        if self._alone.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._alone.release()

    def _connection(self) -> duckdb.DuckDBPyConnection:
        identity = self._index.identity()
        if self._held is None or self._held[0] != identity or not identity:
            self.close()
            stack = contextlib.ExitStack()
            with other_name(self._index.path) as path:
                connection = stack.enter_context(opened(path))
            self._held = (identity, stack, connection)
        return self._held[2]


_cells: weakref.WeakSet[Cell] = weakref.WeakSet()


def _close_cells() -> None:
    for cell in list(_cells):
        cell.before_fork()


os.register_at_fork(before=_close_cells)


@contextlib.contextmanager
def opened(path: Path, limits: Limits = Limits()) -> Iterator[duckdb.DuckDBPyConnection]:
    """The index in a locked cell: read-only, without files, network, extensions or settings.

    Args:
        path: The index.
        limits: How much it may use.

    Yields:
        A connection in which the index is the current database.

    Raises:
        ExecutionError: There is no index, or somebody else has it open for writing.
        TrustError: It is damaged, or no file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.duckdb"
        >>> duckdb.connect(str(path)).close()
        >>> with opened(path) as connection:
        ...     connection.execute("select 1").fetchall()
        [(1,)]
    """
    if not path.exists():
        raise ExecutionError(
            f"{path} is not there and cannot be made here",
            code="DP-EXEC-054",
            hint="make it with `datapipe lineage rebuild` where the folder can be written",
        )
    settings = {
        "memory_limit": limits.memory,
        "threads": str(limits.threads),
        "temp_directory": "",
        "python_enable_replacements": "false",
    }
    with contextlib.closing(started(settings)) as connection:
        _attach(connection, path, limits.wait_s)
        connection.execute("use lineage")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        yield connection


def lines(
    connection: duckdb.DuckDBPyConnection, query: str, **values: object
) -> list[dict[str, Any]]:
    """The answer to one of our own questions, as JSON values.

    Args:
        connection: From `opened`.
        query: The question.
        values: Values of its `$name` parameters.

    Returns:
        A dictionary a line; times as ISO 8601 in UTC.

    Example:
        >>> with duckdb.connect() as connection:
        ...     lines(connection, "select $n as n", n=1)
        [{'n': 1}]
    """
    answer = connection.execute(query, values or None)
    names = [column[0] for column in answer.description or ()]
    found = [dict(zip(names, line, strict=True)) for line in answer.fetchall()]
    for line in found:
        for name, value in line.items():
            if isinstance(value, datetime):
                line[name] = value.isoformat() + "Z"
    return found


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, wait_s: float) -> None:
    for each in (path, path.with_name(f"{path.name}.wal")):  # DuckDB looks for both, and waits
        require(each)
    quoted = str(path).replace("'", "''")
    deadline = time.monotonic() + wait_s
    while True:
        try:
            connection.execute(f"attach '{quoted}' as lineage (read_only)")
        except duckdb.Error as error:
            if not is_held(error) or time.monotonic() >= deadline:
                raise sorted_error(error, path) from error
            time.sleep(0.02)
        else:
            return


def _refuse_orders(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Let exactly one statement through, and only one that asks."""
    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise _misread(error) from error
    if len(statements) != 1:
        raise DeclarationError(
            f"{len(statements)} statements, one expected",
            code="DP-DECL-051",
            hint="ask one question at a time, such as `from dropped_rows`",
        )
    kind = _kind(statements[0])
    if kind not in _ASKING:
        raise _no_question(kind)
    if kind == "EXPLAIN":  # with ANALYZE it runs what it explains
        explained = _EXPLAIN.sub("", statements[0].query, count=1)
        try:
            inner = [_kind(s) for s in connection.extract_statements(explained)]
        except duckdb.Error:
            inner = []
        if inner != ["SELECT"]:
            raise _no_question(f"EXPLAIN of {inner[0] if inner else 'this'}")


def _kind(statement: Any) -> str:
    try:
        return str(statement.type.name)
    except ValueError:  # a kind that the Python package has no name for
        return "this statement"


def _no_question(kind: str) -> DeclarationError:
    return DeclarationError(
        f"{kind} is refused: the store only answers questions",
        code="DP-DECL-051",
        hint="use SELECT, FROM, WITH, DESCRIBE, SUMMARIZE or EXPLAIN",
    )


def _sorted(error: Exception, path: Path, limits: Limits) -> DatapipeError:
    """What an error of DuckDB during a question means for whoever asked."""
    text = str(error)
    if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in text:
        return too_large(limits.memory)
    if isinstance(error, (duckdb.InternalException, duckdb.FatalException)):
        return ExecutionError(
            f"DuckDB failed at this question: {text.splitlines()[0]}",
            code="DP-EXEC-061",
            hint="ask in another way; `datapipe verify` says whether the store is sound",
        )
    return _misread(error) if isinstance(error, _MISTAKES) else sorted_error(error, path)


def _misread(error: Exception) -> DeclarationError:
    text = " ".join(str(error).split("\n\nLINE")[0].split())
    return DeclarationError(
        text,
        code="DP-DECL-052",
        hint="`show tables` lists what can be asked, `describe NAME` its columns",
    )
