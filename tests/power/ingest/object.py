# SPDX-License-Identifier: Apache-2.0
"""Arrow tables handed over in memory: read as they are, and with forged offsets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

from datapipe.core.dataset import empty
from datapipe.errors import DataError
from datapipe.stages.ingest.object import ReadObject

SEEDS = range(20)
FLOORS = {"rows read as given": 0.99, "forged offsets refused": 0.97}
CEILINGS = {}
ROWS, FORGED = 500, 30


def trial(context):
    """Hand over a table in random chunks; then point one string outside of its buffer."""
    rng = np.random.default_rng(context.seed)
    texts = rng.choice(["", "naïve", "日本", "a" * 200], ROWS).tolist()
    table = pa.table({"i": np.arange(ROWS), "t": pa.array(texts, pa.string())})
    ends = [0, *np.sort(rng.choice(np.arange(1, ROWS), 3, replace=False)).tolist(), ROWS]
    pieces = [table.slice(a, b - a) for a, b in pairwise(ends)]
    data = ReadObject(pa.concat_tables(pieces)).run(empty(), context).data
    rows = data.frame().rows()
    same = sum(a == b for a, b in zip(rows, enumerate(texts), strict=True))
    refused = sum(forged(table["t"].combine_chunks(), rng, context) for _ in range(FORGED))
    return {"rows read as given": (same, ROWS), "forged offsets refused": (refused, FORGED)}, data


def forged(strings, rng, context):
    """Whether a column is refused when one string of it lies outside of the buffer."""
    _, offsets, values = strings.buffers()
    bad = np.frombuffer(offsets, np.int32).copy()
    bad[int(rng.integers(1, ROWS))] = values.size + int(rng.integers(1, 2**30))
    column = pa.StringArray.from_buffers(ROWS, pa.py_buffer(bad.tobytes()), values)
    try:
        ReadObject(pa.table({"t": column})).run(empty(), context)
    except DataError:
        return True
    return False
