# SPDX-License-Identifier: Apache-2.0
"""What the rows of a table file are, apart from how the file encodes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datapipe.errors import DeclarationError

if TYPE_CHECKING:  # files of other kinds are signed without these
    import pyarrow as pa

TABLES = frozenset({".parquet", ".arrow", ".feather", ".ipc"})


@dataclass(frozen=True, slots=True)
class Content:
    """The rows of a table file.

    Args:
        rows: How many.
        schema: Digest of names and types, 64 hex digits.
        logical: The chunk root over the rows, 64 hex digits.

    Example:
        >>> Content(0, "0" * 64, "0" * 64).rows
        0
    """

    rows: int
    schema: str
    logical: str


def content_of(path: str | Path) -> Content | None:
    """Read a table file once and say what its rows are.

    Args:
        path: A file.

    Returns:
        Its content; None when it is no Parquet or Arrow file that can be read, or has a column
        without a plain form: it is then known by its bytes alone.

    Example:
        >>> content_of("notes.txt") is None
        True
    """
    file = Path(path)
    if file.suffix.lower() not in TABLES or not file.is_file():
        return None
    import pyarrow as pa  # noqa: PLC0415  # loaded for tables only

    from datapipe.core.chunks import chunk_root, schema_digest  # noqa: PLC0415  # the same

    try:
        schema, batches = _opened(file)
        counted = _Counted(batches)
        logical = chunk_root(schema, counted)
        return Content(counted.rows, schema_digest(schema), logical)
    except (pa.ArrowException, OSError, ValueError, DeclarationError):
        return None


def _opened(file: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema and the batches, read as they are asked for."""
    import pyarrow as pa  # noqa: PLC0415  # loaded for tables only
    import pyarrow.parquet as pq  # noqa: PLC0415  # the same

    if file.suffix.lower() == ".parquet":
        table = pq.ParquetFile(file)
        return table.schema_arrow, table.iter_batches(batch_size=65_536)
    reader = pa.ipc.open_file(pa.memory_map(str(file)))
    return reader.schema, (_checked(reader.get_batch(i)) for i in range(reader.num_record_batches))


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Arrow files carry no checksum: a forged offset would be read outside of its buffer."""
    from datapipe.core.arrow_values import validate_values  # noqa: PLC0415  # loaded for tables only

    validate_values(batch)
    return batch


class _Counted:
    """Batches that remember how many rows went by."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch
