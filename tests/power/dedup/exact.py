# SPDX-License-Identifier: Apache-2.0
"""Tables with planted exact copies, and tables without any."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.stages.dedup.exact import ExactDuplicates

SEEDS, CLEAN_SEEDS = range(20), range(100)
FLOORS = {"recall": 0.99, "precision": 0.99}
CEILINGS = {"alarms": 0.05}
ROWS, COPIES = 2000, 100


def trial(context):
    """Count the copies that were found, and the originals wrongly marked."""
    clean = table(context)
    chosen = np.random.default_rng([context.seed, 1]).choice(ROWS, COPIES, replace=False)
    dirty = Dataset.of(pl.concat([clean, clean[chosen]]))
    flagged = ExactDuplicates().run(dirty, context).findings[0].flagged["row_id"]
    right = int((flagged >= ROWS).sum())
    return {"recall": (right, COPIES), "precision": (right, len(flagged))}, dirty


def alarm(context):
    """Whether copies were seen in a table without any."""
    return ExactDuplicates().run(Dataset.of(table(context)), context).findings[0].verdict != "clean"


def table(context):
    """Rows that differ from each other in one column and agree in many others."""
    rng = np.random.default_rng(context.seed)
    return pl.DataFrame(
        {"a": rng.permutation(ROWS), "b": rng.integers(0, 9, ROWS), "t": rng.choice([*"xyz"], ROWS)}
    )
