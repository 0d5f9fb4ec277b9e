# SPDX-License-Identifier: Apache-2.0
"""Arrow IPC files and streams: read as written, and cut short at random places."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from datapipe.core.context import Context
from datapipe.core.dataset import empty
from datapipe.errors import DataError
from datapipe.stages.ingest.ipc import ReadArrow

SEEDS = range(20)
FLOORS = {"rows read as written": 0.99, "cut files refused": 0.97}
CEILINGS = {}
ROWS, CUTS = 500, 30


def trial(context):
    """Even seeds write files, odd ones streams; then everything after a random byte is lost."""
    rng = np.random.default_rng(context.seed)
    columns = {
        "i": np.arange(ROWS).tolist(),
        "x": rng.normal(size=ROWS).tolist(),
        "t": rng.choice(["", "naïve", "日本", "a" * 200], ROWS).tolist(),
    }
    table = pa.table(columns)
    path = context.scratch / "rows.arrow"
    make = pa.ipc.new_stream if context.seed % 2 else pa.ipc.new_file
    with make(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    raw = path.read_bytes()
    data = ReadArrow(path).run(empty(), context).data
    rows = data.frame().rows()
    same = sum(a == b for a, b in zip(rows, zip(*columns.values(), strict=True), strict=True))
    bad = context.scratch / "cut" / "rows.arrow"
    bad.parent.mkdir()
    cut = sum(refused(bad, raw[: int(rng.integers(len(raw) - 8))], context) for _ in range(CUTS))
    return {"rows read as written": (same, ROWS), "cut files refused": (cut, CUTS)}, data


def refused(path, raw, context):
    """Whether a file of these bytes is refused."""
    path.write_bytes(raw)
    try:
        ReadArrow(path).run(empty(), Context(context.seed, path.parent))
    except DataError:
        return True
    return False
