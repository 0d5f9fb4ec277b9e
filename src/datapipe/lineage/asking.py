# SPDX-License-Identifier: Apache-2.0
"""Questions to a store: the index is caught up first, and one engine answers all of a process."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from datapipe.errors import ExecutionError
from datapipe.lineage.index import Index

if TYPE_CHECKING:
    import duckdb

    from datapipe.lineage.console import Cell

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
        >>> Asking(store._index, lambda: None).sql("from runs", {}).height
        0
    """

    def __init__(self, index: Index, bury: Callable[[], None]) -> None:
        self._index = index
        self._bury = bury

    def sql(self, query: str, values: Mapping[str, object]) -> pl.DataFrame:
        """Somebody else's question, as `Lineage.sql` promises to answer it.

        Args:
            query: One question.
            values: Values of its `$name` parameters.

        Returns:
            The rows.

        Raises:
            DeclarationError: It is not one question, or SQL that cannot be understood.
            ExecutionError: It took too long or too much, or the index is held by a writer.
            TrustError: Journal, index or a recorded object is damaged.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> store = Lineage(tempfile.mkdtemp(), create=True)
            >>> store._asking.sql("select $n + 1 as more", {"n": 1}).item()
            2
        """
        self._freshen()
        from datapipe.lineage.console import answered  # noqa: PLC0415 - DuckDB is for who asks

        with self._cell.asking() as connection:
            return answered(connection, self._index.path, query, values)

    def why(self, row: int | str) -> dict[str, Any]:
        """Where a row came from and where it went; see `Lineage.why`.

        Args:
            row: A row id, or `source:ordinal`.

        Returns:
            JSON values.

        Raises:
            DeclarationError: The store has no such row.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> store = Lineage(tempfile.mkdtemp(), create=True)
            >>> store.append([("sources", {"source_no": 1, "name": "reviews", "rows": 2000})])
            >>> store._asking.why("1:1429")["source"]["name"]
            'reviews'
        """
        from datapipe.lineage.known import Known  # noqa: PLC0415 - DuckDB is for who asks
        from datapipe.lineage.rows import why  # noqa: PLC0415 - the same

        with self.connection() as connection:
            return why(connection, row, self._cell.kept(lambda: Known.read(connection)))

    def trace(self, digest: str) -> dict[str, Any]:
        """The way back from an object, and forward to what was made of it; see `Lineage.trace`.

        Args:
            digest: A digest or its first digits.

        Returns:
            JSON values.

        Raises:
            DeclarationError: No object has this digest, or several begin with these digits.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> store = Lineage(tempfile.mkdtemp(), create=True)
            >>> store.append([("datasets", {"digest": "sha256:ab12cd34ef", "run_id": "r1"})])
            >>> store._asking.trace("ab12cd34")["kind"]
            'dataset'
        """
        from datapipe.lineage.trace import trace  # noqa: PLC0415 - DuckDB is for who asks

        with self.connection() as connection:
            return trace(connection, digest)

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

        self._freshen()
        with self._cell.asking() as connection:
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
            if not self._index.path.is_file():
                raise
        if not current and (age := self._index.age()):
            log.warning("%s", age)
