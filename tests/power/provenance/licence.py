# SPDX-License-Identifier: Apache-2.0
"""Sources under random SPDX expressions: are they judged as logic says?"""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID
from datapipe.core.source import Source
from datapipe.stages.provenance.licence import LicenceRule

SEEDS = range(20)
FLOORS = {"forbidden rows marked": 0.99}
CEILINGS = {"allowed rows marked": 0.01}
ALLOWED, FORBIDDEN = ("MIT", "CC-BY-4.0"), ("GPL-3.0-only", "CC-BY-NC-4.0", "MITT")
SOURCES, ROWS = 40, 5


def trial(context):
    """Judge sources whose expressions were built together with their truth value."""
    rng = np.random.default_rng(context.seed)
    built = [expression(rng, depth=3) for _ in range(SOURCES)]
    sources = [
        Source(f"s{i}", f"arrow:s{i}", licence=text, number=i, rows=ROWS)
        for i, (text, _) in enumerate(built, start=1)
    ]
    ids = [(s.number << 40) + i for s in sources for i in range(ROWS)]
    frame = pl.DataFrame({ROW_ID: pl.Series(ids, dtype=pl.UInt64), "v": range(len(ids))})
    data = Dataset(frame.lazy(), sources=sources)
    found = LicenceRule(allowed=ALLOWED).run(data, context).findings[0]
    marked = np.isin(ids, found.flagged["row_id"].to_numpy())
    allowed = np.repeat([met for _, met in built], ROWS)
    return {
        "forbidden rows marked": (int((marked & ~allowed).sum()), int((~allowed).sum())),
        "allowed rows marked": (int((marked & allowed).sum()), int(allowed.sum())),
    }, data


def expression(rng, *, depth):
    """An SPDX expression, and whether the allowed licences meet it."""
    if depth == 0 or rng.random() < 0.3:
        name = str(rng.choice(ALLOWED + FORBIDDEN))
        return name, name in ALLOWED
    (left, a), (right, b) = expression(rng, depth=depth - 1), expression(rng, depth=depth - 1)
    if rng.random() < 0.5:
        return f"({left} AND {right})", a and b
    return f"({left} or {right})", a or b
