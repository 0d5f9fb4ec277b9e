# SPDX-License-Identifier: Apache-2.0
"""The answer to somebody's question as a frame: what a frame cannot hold becomes text, never wrong.

A frame has no intervals or unions, and no day beyond the year 9999: `date 'infinity'`, which DuckDB
has, would end the process or come out as another day.
"""

from __future__ import annotations

import re
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow._compute as kernels  # `pyarrow.compute` writes 286 docstrings: 0.1 s

from datapipe.errors import ExecutionError

BATCH_ROWS = 65_536
_NO_FRAME_HAS = re.compile(
    r"\b(INTERVAL|UNION|UHUGEINT|BIT|BIGNUM|VARINT|GEOMETRY|TIME WITH TIME ZONE)\b"
)
_NESTED = ("list", "array", "struct", "map")
_DAYS = (-719_161, 2_932_895)
"""The days since 1970 that Python can write: from 0001-01-02 to 9999-12-30, in any time zone."""
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_MOST = 2**63 - 1
"""How Arrow gets DuckDB's infinity of nanoseconds."""


def framed(relation: Any, most_bytes: int) -> pl.DataFrame:
    """The rows that a question gives.

    Args:
        relation: What DuckDB made of the question.
        most_bytes: Size that the answer may have in memory.

    Returns:
        The rows; intervals, unions, types nested too deep for Arrow and the like as text, and so is
        a column of dates or times that holds one outside of the years 1 to 9999.

    Raises:
        ExecutionError: The answer is larger.

    Example:
        >>> import duckdb
        >>> framed(duckdb.sql("select date 'infinity' as d"), 1 << 20).item()
        'infinity'
    """
    as_text = [_NO_FRAME_HAS.search(str(kind)) is not None for kind in relation.types]
    try:
        table = _fetched(_told(relation, as_text), most_bytes)
    except pa.ArrowInvalid:  # lists in lists in lists: Arrow reads types that are 64 deep
        nested = [str(kind.id) in _NESTED for kind in relation.types]
        as_text = [one or other for one, other in zip(as_text, nested, strict=True)]
        table = _fetched(_told(relation, as_text), most_bytes)
    beyond = [any(map(_beyond, column.chunks)) for column in table.columns]
    if any(beyond):
        texts = [one or other for one, other in zip(as_text, beyond, strict=True)]
        table = _fetched(_told(relation, texts), most_bytes)
    frame = pl.DataFrame(table.rename_columns(_told_apart(table.column_names)))
    whole = [n for n, t in frame.schema.items() if isinstance(t, pl.Decimal) and t.scale == 0]
    return frame.with_columns(_counted(frame[name]) for name in whole)


def _told(relation: Any, as_text: list[bool]) -> Any:
    """The same rows, some columns as text."""
    if not any(as_text):
        return relation
    names = [name.replace('"', '""') for name in relation.columns]
    told = [
        f'#{number}::varchar as "{name}"' if cast else f"#{number}"
        for number, (name, cast) in enumerate(zip(names, as_text, strict=True), start=1)
    ]
    return relation.project(", ".join(told))


def _fetched(relation: Any, most_bytes: int) -> pa.Table:
    reader = relation.to_arrow_reader(BATCH_ROWS)
    batches: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > most_bytes:
            raise ExecutionError(
                f"the answer is larger than {most_bytes:,} bytes",
                code="DP-EXEC-055",
                hint="ask for fewer rows or columns, or add a LIMIT",
            )
    return pa.Table.from_batches(batches, schema=reader.schema)


def _beyond(values: pa.Array) -> bool:
    """Whether some date or time in it is none that a frame and Python can write."""
    kind = values.type
    if pa.types.is_struct(kind):
        return any(_beyond(part) for part in values.flatten())
    if pa.types.is_map(kind):
        return _beyond(values.keys) or _beyond(values.items)
    if pa.types.is_nested(kind):
        return _beyond(values.flatten())
    if pa.types.is_date32(kind):
        least, most, numbers = *_DAYS, values.view(pa.int32())
    elif pa.types.is_time(kind):  # DuckDB has 24:00:00
        least, most = 0, _PER_DAY[kind.unit] - 1
        numbers = values.view(pa.int64())
    elif pa.types.is_timestamp(kind):
        unit = _PER_DAY[kind.unit]
        least, most = max(_DAYS[0] * unit, 1 - _MOST), min(_DAYS[1] * unit, _MOST - 1)
        numbers = values.view(pa.int64())
    else:
        return False
    found = kernels.call_function("min_max", [numbers])
    low, high = found["min"].as_py(), found["max"].as_py()
    return low is not None and not least <= low <= high <= most


def _told_apart(names: list[str]) -> list[str]:
    """Columns of equal names, which a join may give, by a number: `reason`, `reason_1`."""
    found: list[str] = []
    for name in names:
        new, n = name, 0
        while new in found or (n and new in names):
            n += 1
            new = f"{name}_{n}"
        found.append(new)
    return found


def _counted(column: pl.Series) -> pl.Series:
    """Sums of integers come as decimals of 38 digits; most are counts and fit 64 bits."""
    return column if (column.abs() >= 2**63).any() else column.cast(pl.Int64)
