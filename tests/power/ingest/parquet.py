# SPDX-License-Identifier: Apache-2.0
"""Parquet files with page checksums: read as written, and with one byte changed or cut short."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from polars.exceptions import PolarsError

from datapipe.core.dataset import empty
from datapipe.errors import DataError
from datapipe.stages.ingest.parquet import ReadParquet

SEEDS = range(20)
FLOORS = {"rows read as written": 0.99, "cut files refused": 0.97}
CEILINGS = {"changed bytes that changed rows unseen": 0.02}
ROWS, DAMAGED = 500, 25


def trial(context):
    """Write rows, read them; change one byte at a time; cut the file at random places."""
    rng = np.random.default_rng(context.seed)
    table = pa.table(
        {
            "i": np.arange(ROWS),
            "x": rng.normal(size=ROWS),
            "t": rng.choice(["", "naïve", "日本", "a" * 200], ROWS).tolist(),
        }
    )
    path = context.scratch / "rows.parquet"
    pq.write_table(table, path, write_page_checksum=True)
    data = ReadParquet(path).run(empty(), context).data
    rows = data.frame().rows()
    same = sum(a == b for a, b in zip(rows, pa_rows(table), strict=True))
    raw = path.read_bytes()
    bad = path.with_name("damaged.parquet")
    unseen = sum(silent(bad, changed(raw, rng), rows, context) for _ in range(DAMAGED))
    cut = sum(
        read(bad, raw[: int(rng.integers(len(raw)))], context) is None for _ in range(DAMAGED)
    )
    return {
        "rows read as written": (same, ROWS),
        "changed bytes that changed rows unseen": (unseen, DAMAGED),
        "cut files refused": (cut, DAMAGED),
    }, data


def pa_rows(table):
    """The rows of an Arrow table."""
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def changed(raw, rng):
    """The bytes with one of them changed."""
    at = int(rng.integers(len(raw)))
    return raw[:at] + bytes([raw[at] ^ int(rng.integers(1, 256))]) + raw[at + 1 :]


def silent(path, raw, rows, context):
    """Whether other rows than were written come back without a word."""
    got = read(path, raw, context)
    return got is not None and got != rows


def read(path, raw, context):
    """The rows of a file, None when it was refused."""
    path.write_bytes(raw)
    try:
        return ReadParquet(path).run(empty(), context).data.frame().rows()
    except (DataError, PolarsError):  # the plan is read late; in a run the executor says which file
        return None
