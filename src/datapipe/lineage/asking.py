# SPDX-License-Identifier: Apache-2.0
"""Questions to a store: the index is caught up first, and one engine answers all of a process."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from datapipe.errors import ExecutionError
from datapipe.lineage.index import Index

if TYPE_CHECKING:
    import duckdb

    from datapipe.lineage.console import Cell

Kept = TypeVar("Kept")
log = logging.getLogger("datapipe.lineage")


class Asking:
    """Asks the index of one store; DuckDB is loaded by the first question.

    Args:
        index: The index.
        bury: Called before each question: it has runs whose process is gone recorded as abandoned.

    Example:
        >>> import tempfile
        >>> from datapipe.lineage.store import Lineage
        >>> store = Lineage(tempfile.mkdtemp(), create=True)
        >>> with Asking(store._index, lambda: None).connection() as connection:
        ...     connection.execute("select count(*) from runs").fetchall()
        [(0,)]
    """

    def __init__(self, index: Index, bury: Callable[[], None]) -> None:
        self._index = index
        self._bury = bury

    @contextlib.contextmanager
    def guarded(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The index, caught up and opened for somebody else's question.

        Yields:
            A connection for `datapipe.lineage.console.answered`, which judges its errors.

        Raises:
            ExecutionError: The index is held by a writer.
            TrustError: Journal, index or a recorded object is damaged.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.console import answered
            >>> from datapipe.lineage.store import Lineage
            >>> store = Lineage(tempfile.mkdtemp(), create=True)
            >>> with store._asking.guarded() as connection:
            ...     answered(connection, store._index.path, "select $n as more", {"n": 2}).item()
            2
        """
        self._freshen()
        with self._cell.asking() as connection:
            yield connection

    def kept(self, read: Callable[[], Kept]) -> Kept:
        """What was read of the index, as long as it is the same; within `connection` only.

        Args:
            read: Reads it when it is not there or of an earlier index.

        Returns:
            What `read` gave.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> store = Lineage(tempfile.mkdtemp(), create=True)
            >>> with store._asking.connection():
            ...     store._asking.kept(lambda: 1), store._asking.kept(lambda: 2)
            (1, 1)
        """
        return self._cell.kept(read)

    @contextlib.contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The index, caught up and opened for our own questions.

        Yields:
            A connection; DuckDB's errors come out as ours.

        Raises:
            ExecutionError: The index is held by a writer.
            TrustError: Journal, index or a recorded object is damaged.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> store = Lineage(tempfile.mkdtemp(), create=True)
            >>> with store._asking.connection() as connection:
            ...     connection.execute("select count(*) from runs").fetchall()
            [(0,)]
        """
        from datapipe.lineage.duck import duckdb  # noqa: PLC0415 - for who asks
        from datapipe.lineage.engine import sorted_error  # noqa: PLC0415 - the same

        with self.guarded() as connection:
            try:
                yield connection
            except duckdb.Error as error:
                raise sorted_error(error, self._index.path) from error

    def close(self) -> None:
        """Let go of the index, if anybody asked it.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> Asking(Lineage(tempfile.mkdtemp(), create=True)._index, lambda: None).close()
        """
        if "_cell" in vars(self):
            self._cell.close()

    @cached_property
    def _cell(self) -> Cell:
        from datapipe.lineage.console import Cell  # noqa: PLC0415 - DuckDB is for who asks

        return Cell(self._index)

    def _freshen(self) -> None:
        """Catch up; in a folder that cannot be written the index answers as it stands."""
        try:
            with contextlib.suppress(PermissionError):
                self._bury()
            current = self._index.catch_up()
        except ExecutionError:
            current = False
            if os.access(self._index.path.parent / "journal", os.W_OK):
                raise
            if not self._index.path.exists():
                raise
        if not current and (age := self._index.age()):
            log.warning("%s", age)
