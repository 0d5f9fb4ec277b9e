# SPDX-License-Identifier: Apache-2.0
"""Tables with planted exact copies, and tables without any."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.stages.dedup.exact import ExactDuplicates

SEEDS = range(10)
FLOORS = {"recall": 0.99, "precision": 0.99}
CEILINGS = {"false alarms on clean tables": 0.5}
ROWS, COPIES = 2000, 100


def trial(seed: int):
    """Count the copies that were found, and the tables wrongly doubted."""
    rng = np.random.default_rng(seed)
    clean = pl.DataFrame(
        {"a": rng.permutation(ROWS), "b": rng.normal(size=ROWS), "t": rng.choice(list("xyz"), ROWS)}
    )
    copies = clean[rng.choice(ROWS, COPIES, replace=False)]
    dirty = Dataset.of(pl.concat([clean, copies]))
    with tempfile.TemporaryDirectory() as folder:
        context = Context(seed=seed, scratch=Path(folder))
        flagged = ExactDuplicates().run(dirty, context).findings[0].flagged["row_id"]
        verdict = ExactDuplicates().run(Dataset.of(clean), context).findings[0].verdict
    right = int((flagged >= ROWS).sum())
    counts = {
        "recall": (right, COPIES),
        "precision": (right, len(flagged)),
        "false alarms on clean tables": (int(verdict != "clean"), 1),
    }
    return counts, [(f"copies, seed {seed}", dirty)]
