# SPDX-License-Identifier: Apache-2.0
"""`Dataset`: immutable Arrow data with roles, read lazily, whose rows have names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from datapipe.core.arrow_file import write_sealed
from datapipe.core.arrow_stream import ArrowStream, table_of
from datapipe.core.digest import CHUNK_ROWS, digest_batches
from datapipe.core.parquet import sink_rows, vouch
from datapipe.core.roles import HIDDEN, ROW_ID, Roles
from datapipe.core.source import Source
from datapipe.errors import SchemaMismatch, nearest

ARROW_SUFFIXES = (".arrow", ".ipc", ".feather")
"""Endings of names under which rows are saved as Arrow IPC."""
READ_AHEAD_BYTES = 2**16
"""Bytes of a column that are fetched together when a stored file is gone through."""


class Piece(NamedTuple):
    """A plan over a part of some rows, of which a slice can be read without what comes before it.

    Args:
        frame: The plan, hidden column first.
        rows: How many rows it gives.
        size_bytes: What they take in memory, as far as it is known; 0 where it is not.
        groups: In how many row groups or batches they are stored: to read a slice of one, all of
            it before the slice is decoded.

    Example:
        >>> Piece(pl.LazyFrame({ROW_ID: [1]}), 1).size_bytes
        0
    """

    frame: pl.LazyFrame
    rows: int
    size_bytes: int = 0
    groups: int = 1


class Dataset:
    """Rows with names and columns with roles; nothing in it changes after it was made.

    Every row carries a hidden `uint64` that names it for ever. `schema`, `scan()`, `batches()` and
    the Arrow stream leave it out; `scan(row_id=True)` and `row_ids` give it.

    Args:
        frame: A lazy polars plan; it may hold the hidden column.
        roles: What the columns are for; each must exist.
        sources: Where the rows come from.
        path: The Parquet file that holds exactly these rows, when there is one.
        digest: The digest of that file; computed from the rows when empty.
        rows: The number of rows when known.
        kept: Whether the file was written earlier: then it is held against its checksums before
            its rows are first read, and damage raises `TrustError`.
        pieces: The same rows as plans over parts of the source, in order, each with its number of
            rows, where a slice of one can be read without what comes before it.
        taken_from: Digest of the stored rows that these are some of, where that is known.

    Raises:
        SchemaMismatch: A role names a column that is not there.

    Example:
        >>> d = Dataset.of(pa.table({"t": ["a", "b"], "y": [0, 1]}), Roles.of(text="t", label="y"))
        >>> len(d), d.names, d.roles.one("label")
        (2, ['t', 'y'], 'y')
    """

    def __init__(
        self,
        frame: pl.LazyFrame,
        roles: Roles | None = None,
        *,
        sources: Sequence[Source] = (),
        path: Path | None = None,
        digest: str = "",
        rows: int | None = None,
        kept: bool = False,
        pieces: Sequence[Piece] = (),
        taken_from: str = "",
    ) -> None:
        self._plan = frame
        self._polars_schema = frame.collect_schema()
        self._digest = digest
        self._rows = rows
        self._kept = kept
        self.pieces = tuple(pieces)
        self.taken_from = taken_from
        self.path = path
        self.sources = tuple(sources)
        self.roles = (roles or Roles()).resolved(self._polars_schema, where="this data set")

    @classmethod
    def of(cls, data: ArrowStream, roles: Roles | None = None) -> Dataset:
        """A data set from any object with `__arrow_c_stream__`; row ids count from 0.

        Args:
            data: A pyarrow table, a polars, pandas or DuckDB frame, or the like.
            roles: What its columns are for.

        Returns:
            The data set, in memory.

        Raises:
            SchemaMismatch: The object does not speak the Arrow stream interface, its stream breaks
                off, or a column holds Python objects.

        Example:
            >>> len(Dataset.of(pl.DataFrame({"a": [1, 2]})))
            2
        """
        if isinstance(data, cls):
            return data
        if not hasattr(data, "__arrow_c_stream__"):
            raise SchemaMismatch(
                f"{type(data).__name__} has no __arrow_c_stream__",
                hint="give a pyarrow, polars, pandas or DuckDB table",
            )
        frame = data if isinstance(data, pl.DataFrame) else pl.DataFrame(table_of(data))
        if objects := [name for name, kind in frame.schema.items() if kind == pl.Object]:
            raise SchemaMismatch(
                f"the column {objects[0]!r} holds Python objects",
                hint="write it as numbers, texts or lists, or leave it out",
            )
        if ROW_ID not in frame.columns:
            frame = frame.select(pl.int_range(pl.len(), dtype=pl.UInt64).alias(ROW_ID), pl.all())
        return cls(frame.lazy(), roles, rows=frame.height)

    @property
    def names(self) -> list[str]:
        """The column names, the hidden ones left out."""
        return [name for name in self._polars_schema if name not in HIDDEN]

    @property
    def types(self) -> pl.Schema:
        """Column name to polars type, the hidden one left out."""
        return pl.Schema({n: t for n, t in self._polars_schema.items() if n not in HIDDEN})

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, the hidden column left out."""
        return pl.DataFrame(schema=self.types).to_arrow().schema

    @property
    def features(self) -> list[str]:
        """The columns that play no role: what a table model learns from."""
        taken = {c for columns in self.roles.columns.values() for c in columns}
        return [name for name in self.names if name not in taken]

    @property
    def digest(self) -> str:
        """`sha256:` of the stored file, or of the rows where no file holds them."""
        if not self._digest:
            table = self.scan(row_id=True).collect(engine="streaming").to_arrow()
            self._digest = digest_batches(table.schema, table.to_batches())
        return self._digest

    @property
    def _frame(self) -> pl.LazyFrame:
        """The plan, for whoever is about to read rows by it."""
        if self._kept and self.path is not None:
            vouch(self.path, self.digest)
        return self._plan

    @property
    def row_ids(self) -> pl.Series:
        """The hidden row ids in row order, uint64 of shape (n,)."""
        return self._frame.select(ROW_ID).collect(engine="streaming")[ROW_ID]

    @property
    def _hidden(self) -> tuple[str, ...]:
        """The hidden columns that are here: the row id always, ancestors after a join."""
        return tuple(name for name in HIDDEN if name in self._polars_schema)

    def __len__(self) -> int:
        if self._rows is None:
            self._rows = int(self._frame.select(pl.len()).collect(engine="streaming").item())
        return self._rows

    def __bool__(self) -> bool:
        """Always true: asking whether there is a data set must not count its rows."""
        return True

    def scan(self, *, row_id: bool = False) -> pl.LazyFrame:
        """The rows as a lazy polars plan.

        Args:
            row_id: Whether the hidden column comes along (as the first column).

        Returns:
            A plan that reads nothing until it is collected.

        Example:
            >>> Dataset.of(pa.table({"a": [1, 2]})).scan(row_id=True).collect().columns
            ['_row_id', 'a']
        """
        return self._frame.select([*self._hidden, *self.names] if row_id else self.names)

    def frame(self, columns: Sequence[str] | None = None, *, row_id: bool = False) -> pl.DataFrame:
        """Some columns as a polars frame in memory.

        Args:
            columns: Which columns; None for all.
            row_id: Whether the hidden column comes along.

        Returns:
            The rows.

        Raises:
            SchemaMismatch: A column is not there.

        Example:
            >>> Dataset.of(pa.table({"a": [1], "b": [2]})).frame(["b"]).row(0)
            (2,)
        """
        wanted = list(self.names if columns is None else columns)
        for name in wanted:
            if name not in self._polars_schema:
                raise SchemaMismatch(f"there is no column {name!r}", hint=nearest(name, self.names))
        hidden = self._hidden if columns is None else (ROW_ID,)
        picked = [*hidden, *wanted] if row_id else wanted
        return self._frame.select(picked).collect(engine="streaming")

    def values(self, role: str) -> pl.Series:
        """The values of the first column that plays a role.

        Args:
            role: A role's name.

        Returns:
            A series of shape (n,), in row order.

        Example:
            >>> Dataset.of(pa.table({"y": [0, 1]}), Roles.of(label="y")).values("label").to_list()
            [0, 1]
        """
        name = self.roles.one(role)
        return self.frame([name])[name]

    def batches(
        self, rows: int = CHUNK_ROWS, *, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows as Arrow record batches, in order; a stored file is never read whole.

        Args:
            rows: Most rows in a batch, > 0.
            columns: Which columns; None for all.

        Yields:
            Record batches without the hidden column.

        Example:
            >>> d = Dataset.of(pa.table({"a": [1, 2, 3]}))
            >>> [b.num_rows for b in d.batches(2)]
            [2, 1]
        """
        if self.path is not None:
            if self._kept:
                vouch(self.path, self.digest)
            # page by page: pyarrow's own choice is to fetch whole row groups ahead
            import pyarrow.parquet as pq  # noqa: PLC0415 - loads file systems and TLS

            with pq.ParquetFile(
                self.path,
                page_checksum_verification=True,
                pre_buffer=False,
                buffer_size=READ_AHEAD_BYTES,
            ) as file:
                yield from file.iter_batches(batch_size=rows, columns=list(columns or self.names))
            return
        plan = self._frame.select(self.names if columns is None else columns)
        for part in plan.collect_batches(chunk_size=rows, maintain_order=True, engine="streaming"):
            yield from part.to_arrow().to_batches(max_chunksize=rows)

    def with_frame(self, frame: pl.LazyFrame, *, roles: Roles | None = None) -> Dataset:
        """A data set with another plan and the same sources.

        Args:
            frame: The new plan; the hidden column must be among its columns.
            roles: The new roles; None keeps those whose columns are still there.

        Returns:
            The new data set, neither stored nor counted yet.

        Raises:
            SchemaMismatch: The hidden column was lost, so that rows would lose their names.

        Example:
            >>> d = Dataset.of(pa.table({"a": [1, 2]}))
            >>> len(d.with_frame(d.scan(row_id=True).filter(pl.col("a") > 1)))
            1
        """
        names = frame.collect_schema().names()
        lost = [name for name in self._hidden if name not in names]
        if lost:
            raise SchemaMismatch(
                f"the hidden column {lost[0]!r} was lost: rows would lose their names",
                hint="use with_columns, or select it too",
            )
        if roles is None:
            kept = {
                r: tuple(c for c in columns if c in names)
                for r, columns in self.roles.columns.items()
            }
            roles = Roles(kept)
        origin = self._digest if self.path is not None else self.taken_from
        return Dataset(frame, roles, sources=self.sources, taken_from=origin)

    def with_roles(self, roles: Roles) -> Dataset:
        """The same rows, whose columns play other roles.

        Args:
            roles: The new roles.

        Returns:
            The data set; it knows of the file and digest of its rows what this one knows.

        Raises:
            SchemaMismatch: A role names a column that is not there.

        Example:
            >>> Dataset.of(pa.table({"y": [0]})).with_roles(Roles.of(label="y")).roles.one("label")
            'y'
        """
        return self._again(roles, self.sources)

    def with_sources(self, sources: Sequence[Source]) -> Dataset:
        """The same rows, with other facts about where they come from.

        Args:
            sources: The facts, a source for every number that a row id holds.

        Returns:
            The data set; it knows of the file and digest of its rows what this one knows.

        Example:
            >>> Dataset.of(pa.table({"y": [0]})).with_sources([Source("a", "a.csv")]).sources[0].uri
            'a.csv'
        """
        return self._again(self.roles, sources)

    def _again(self, roles: Roles, sources: Sequence[Source]) -> Dataset:
        return Dataset(
            self._plan,
            roles,
            sources=sources,
            path=self.path,
            digest=self._digest,
            rows=self._rows,
            kept=self._kept,
            pieces=self.pieces,
            taken_from=self.taken_from,
        )

    def save(self, path: str | os.PathLike[str], *, row_id: bool = False) -> Path:
        """Write the rows as one file, streaming, and publish it by rename.

        The file carries checksums over all of its bytes: any Parquet or Arrow reader reads it, and
        `ReadParquet` and `ReadArrow` notice every flipped bit.

        Args:
            path: Where to write; its folder must exist. A name that ends in `.arrow`, `.ipc` or
                `.feather` gets an Arrow IPC file, any other a Parquet file.
            row_id: Whether the hidden column is written too.

        Returns:
            The path.

        Example:
            >>> import tempfile
            >>> target = Path(tempfile.mkdtemp()) / "a.parquet"
            >>> pl.read_parquet(Dataset.of(pa.table({"a": [1]})).save(target)).shape
            (1, 1)
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        if target.suffix.lower() in ARROW_SUFFIXES:
            frame = self.scan(row_id=row_id)
            schema = pl.DataFrame(schema=frame.collect_schema()).to_arrow().schema
            write_sealed(schema, _batches_of(frame, schema), partial)
        else:
            sink_rows(self.scan(row_id=row_id), partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(target)
        return target

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the rows as an Arrow C stream, the hidden column left out.

        Args:
            requested_schema: A schema capsule to cast to, or None.

        Returns:
            A PyCapsule named `arrow_array_stream`.

        Example:
            >>> pa.table(Dataset.of(pa.table({"a": [1]}))).num_rows
            1
        """
        reader = pa.RecordBatchReader.from_batches(self.schema, self._cast(self.batches()))
        return reader.__arrow_c_stream__(requested_schema)

    def _cast(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        schema = self.schema
        for batch in batches:
            yield batch if batch.schema.equals(schema) else batch.cast(schema)

    def __repr__(self) -> str:
        rows = "?" if self._rows is None else f"{self._rows:,}"
        roles = ", ".join(f"{r}={'+'.join(c[:3])}" for r, c in self.roles.columns.items())
        return f"Dataset({rows} rows x {len(self.names)} columns; {roles or 'no roles'})"


def _batches_of(frame: pl.LazyFrame, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a plan in order, batch by batch, never all of them in memory."""
    for part in frame.collect_batches(chunk_size=CHUNK_ROWS, engine="streaming"):
        yield from part.to_arrow().cast(schema).to_batches(max_chunksize=CHUNK_ROWS)


def empty() -> Dataset:
    """The data set a reader is handed: no rows, no columns.

    Returns:
        A data set of length 0.

    Example:
        >>> len(empty())
        0
    """
    return Dataset(pl.LazyFrame(schema={ROW_ID: pl.UInt64}), rows=0)
