# SPDX-License-Identifier: Apache-2.0
"""Why rows left, by position: a reason for every row of a source, null where the row stayed.

Parquet stores such a column as one bit a row (null or not) and a few bits of dictionary code for
each row that left, which zstd packs further: 1.5 bits a row where a quarter of them leave for four
reasons, against 2.5 for a list of row ids. Which rows the positions stand for is written into the
file itself, so a sidecar needs nothing but its bytes to be understood.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from datapipe.core.roles import ORDINAL_BITS
from datapipe.errors import ExecutionError

VERSION = 1
"""Version of the layout; a file of a later one is refused, one without it is a list of row ids."""

MOST_REASONS = 127
"""Reasons that fit a code of one byte; a stage that names more says something about each row."""

SPARSE = 8
"""Where fewer than one row in so many leaves, a list of row ids takes less than a bit a row."""

GROUP_ROWS = 1 << 20
_KEY = b"datapipe.sidecar"


@dataclass(frozen=True)
class Span:
    """Rows that follow each other in a source and in a sidecar.

    Args:
        first: Row id of the first.
        rows: How many.

    Example:
        >>> Span(1 << 40, 10).rows
        10
    """

    first: int
    rows: int


def spans(row_ids: pl.Series, sources: Sequence[tuple[int, int]]) -> list[Span]:
    """The rows that a sidecar has to cover: every source that lost some, whole.

    Args:
        row_ids: Ids of the rows that left.
        sources: (number, rows) of the sources.

    Returns:
        Spans in the order of row ids.

    Example:
        >>> spans(pl.Series([1 << 40 | 3], dtype=pl.UInt64), [(1, 10), (2, 10)])
        [Span(first=1099511627776, rows=10)]
    """
    number = pl.col("row_id") // (1 << ORDINAL_BITS)
    last = (pl.col("row_id") % (1 << ORDINAL_BITS)).max()
    found = pl.DataFrame({"row_id": row_ids}).group_by(number.alias("number")).agg(last)
    known = dict(sources)
    return [
        Span(n << ORDINAL_BITS, max(known.get(n, 0), ordinal + 1))
        for n, ordinal in sorted(found.rows())
    ]


def pays(left: pl.DataFrame, covered: Sequence[Span]) -> bool:
    """Whether positions take less than a list of row ids.

    Args:
        left: `row_id`, `reason` of the rows that left.
        covered: What `spans` gave.

    Returns:
        True when they do.

    Example:
        >>> pays(pl.DataFrame({"row_id": [1, 2], "reason": ["a", "a"]}), [Span(0, 10)])
        True
    """
    if left.height * SPARSE < sum(span.rows for span in covered):
        return False
    twice = (left["row_id"].sort().diff() == 0).any()  # a row that was multiplied has one place
    return not twice and left["reason"].n_unique() <= MOST_REASONS


def write(path: Path, left: pl.DataFrame, covered: Sequence[Span]) -> None:
    """Write a sidecar, a group of rows at a time.

    Args:
        path: Where the file is made.
        left: `row_id`, `reason` of the rows that left, each id once.
        covered: What `spans` gave.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.parquet"
        >>> write(path, pl.DataFrame({"row_id": [2], "reason": ["a"]}), [Span(0, 4)])
        >>> import pyarrow.parquet as pq
        >>> pq.read_table(path)["reason"].to_pylist()
        [None, None, 'a', None]
    """
    import pyarrow.parquet as pq  # noqa: PLC0415 - loads file systems and TLS

    reasons = sorted(str(r) for r in left["reason"].unique())
    ordered = left.select("row_id", pl.col("reason").cast(pl.Enum(reasons))).sort("row_id")
    ids = ordered["row_id"].cast(pl.UInt64).to_numpy()
    codes = ordered["reason"].to_physical().to_numpy()
    told = {"version": VERSION, "spans": [[s.first, s.rows] for s in covered]}
    column = pa.field("reason", pa.dictionary(pa.int8(), pa.string()))
    schema = pa.schema([column], metadata={_KEY: json.dumps(told).encode()})
    words = pa.array(reasons, pa.string())
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        for span in covered:
            for start in range(span.first, span.first + span.rows, GROUP_ROWS):
                end = min(start + GROUP_ROWS, span.first + span.rows)
                low, high = np.searchsorted(ids, np.array([start, end], dtype=np.uint64))
                held = np.full(end - start, -1, dtype=np.int8)
                held[ids[low:high] - np.uint64(start)] = codes[low:high]
                indices = pa.array(held, mask=held < 0)
                table = pa.table([pa.DictionaryArray.from_arrays(indices, words)], schema=schema)
                writer.write_table(table, row_group_size=GROUP_ROWS)


def covered_by(path: Path) -> list[Span] | None:
    """The rows that the positions of a file stand for.

    Args:
        path: A Parquet file.

    Returns:
        Its spans; None when it is a list of row ids.

    Raises:
        ExecutionError: A later datapipe wrote it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.parquet"
        >>> write(path, pl.DataFrame({"row_id": [2], "reason": ["a"]}), [Span(0, 4)])
        >>> covered_by(path)
        [Span(first=0, rows=4)]
    """
    import pyarrow.parquet as pq  # noqa: PLC0415 - loads file systems and TLS

    text = (pq.read_schema(path).metadata or {}).get(_KEY)
    if text is None:
        return None
    told = json.loads(text)
    if told["version"] > VERSION:
        raise ExecutionError(
            f"{path} has version {told['version']}, this datapipe reads up to {VERSION}",
            code="DP-EXEC-053",
            hint="use the datapipe that wrote it, or a later one",
        )
    return [Span(first, rows) for first, rows in told["spans"]]


def as_list(path: Path, covered: Sequence[Span]) -> str:
    """SQL that reads a sidecar as a list: `row_id`, `reason`, in one pass.

    Args:
        path: The file.
        covered: Its spans.

    Returns:
        A query.

    Example:
        >>> "file_row_number" in as_list(Path("a.parquet"), [Span(0, 4)])
        True
    """
    at, parts = 0, []
    for span in covered:
        parts.append((at + span.rows, span.first - at))
        at += span.rows
    shift = str(parts[-1][1]) if parts else "0"
    for end, by in reversed(parts[:-1]):
        shift = f"case when file_row_number < {end} then {by} else {shift} end"
    quoted = str(path).replace("'", "''")
    return (
        f"select (file_row_number + {shift})::ubigint as row_id, reason "  # noqa: S608 - our numbers
        f"from read_parquet('{quoted}', file_row_number = true) where reason is not null"
    )
