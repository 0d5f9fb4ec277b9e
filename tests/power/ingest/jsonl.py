# SPDX-License-Identifier: Apache-2.0
"""JSON lines with values that are easily lost, and files with one broken line."""

from __future__ import annotations

import json

import numpy as np

from datapipe.core.dataset import empty
from datapipe.errors import DataError
from datapipe.stages.ingest.jsonl import ReadJSONL

SEEDS = range(20)
FLOORS = {"rows read as written": 0.99, "broken files refused": 0.97}
CEILINGS = {}
ROWS, BROKEN = 300, 20
WORDS = ["007", "", "two\nlines", "\u0000", "[{", "naïve", "日本", "\U0001f600", "2020-01-01"]
BREAKS = (
    b'{"i":1,',
    b'{"i":1,"i":2}',
    b'{"i":NaN}',
    b'{"i":1} x',
    b'{"i":18446744073709551616}',
    b'{"t":"\xff"}',
)


def trial(context):
    """Write rows, read them; then put one broken line among the others at a random place."""
    rng = np.random.default_rng(context.seed)
    rows = [
        {"i": i, "t": str(rng.choice(WORDS)), "n": int(rng.integers(2**62)), "x": float(x)}
        for i, x in enumerate(rng.normal(size=ROWS))
    ]
    lines = [json.dumps(row, ensure_ascii=bool(rng.integers(2))).encode() for row in rows]
    path = context.scratch / "rows.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    data = ReadJSONL(path).run(empty(), context).data
    same = sum(got == own for got, own in zip(data.frame().to_dicts(), rows, strict=True))
    bad = path.with_name("broken.jsonl")
    refused = sum(broken(bad, lines, BREAKS[k % len(BREAKS)], rng, context) for k in range(BROKEN))
    return {"rows read as written": (same, ROWS), "broken files refused": (refused, BROKEN)}, data


def broken(path, lines, line, rng, context):
    """Whether the file is refused when one line of it is broken."""
    at = int(rng.integers(len(lines) + 1))
    path.write_bytes(b"\n".join([*lines[:at], line, *lines[at:]]) + b"\n")
    try:
        ReadJSONL(path).run(empty(), context)
    except DataError:
        return True
    return False
