# SPDX-License-Identifier: Apache-2.0
"""CSV files with values that are easily lost, and files broken in one place."""

from __future__ import annotations

import csv

import numpy as np

from datapipe.core.dataset import empty
from datapipe.errors import DataError
from datapipe.stages.ingest.csv import ReadCSV

SEEDS = range(20)
FLOORS = {"rows read as written": 0.99, "broken files refused": 0.97}
CEILINGS = {}
ROWS, BROKEN = 300, 20
WORDS = ["007", "a,b", 'say "x"', "two\nlines", "1e400", "NA", "naïve", "日本", "-0", "2020-01-01"]
BREAKS = (b"\nonly one field\n", b'\n1,"open,x\n', b"\n1,\x00,x\n", b"\n1,\xff,x\n", b"\n1,2,3,4\n")


def trial(context):
    """Write rows, read them; then put one broken record into the file at a random place."""
    rng = np.random.default_rng(context.seed)
    rows = [(str(i), str(rng.choice(WORDS)), str(rng.integers(2**62))) for i in range(ROWS)]
    path = context.scratch / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("i", "t", "n"), *rows])
    data = ReadCSV(path).run(empty(), context).data
    same = sum(
        tuple(map(str, got)) == own for got, own in zip(data.frame().rows(), rows, strict=True)
    )
    bad = path.with_name("broken.csv")
    lines = "i,n,k\n" + "".join(f"{i},{n},{n}\n" for i, _, n in rows)
    refused = sum(
        broken(bad, lines.encode(), BREAKS[k % len(BREAKS)], rng, context) for k in range(BROKEN)
    )
    return {"rows read as written": (same, ROWS), "broken files refused": (refused, BROKEN)}, data


def broken(path, raw, record, rng, context):
    """Whether the file is refused when one record of it is broken."""
    ends = [i for i, byte in enumerate(raw) if byte == 10]
    at = int(rng.choice(ends))
    path.write_bytes(raw[:at] + record + raw[at + 1 :])
    try:
        ReadCSV(path).run(empty(), context)
    except DataError:
        return True
    return False
