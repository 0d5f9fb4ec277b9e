# SPDX-License-Identifier: Apache-2.0
"""Texts with planted near copies (some words replaced), and texts without any."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.dedup.minhash import MinHash

SEEDS = range(10)
FLOORS = {"recall at two of 120 words replaced": 0.95, "precision": 0.98}
CEILINGS = {"false alarms on clean texts": 0.5}
ROWS, COPIES, WORDS, REPLACED = 600, 60, 120, 2


def trial(seed: int):
    """Count the near copies that were found, and the corpora wrongly doubted."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array([f"w{i}" for i in range(5000)])
    texts = rng.choice(vocabulary, (ROWS, WORDS))
    copies = texts[rng.choice(ROWS, COPIES, replace=False)].copy()
    for copy in copies:
        copy[rng.choice(WORDS, REPLACED, replace=False)] = rng.choice(vocabulary, REPLACED)
    clean = pl.DataFrame({"t": [" ".join(words) for words in texts]})
    near = pl.DataFrame({"t": [" ".join(words) for words in copies]})
    roles = Roles.of(text="t")
    dirty = Dataset.of(pl.concat([clean, near]), roles)
    with tempfile.TemporaryDirectory() as folder:
        context = Context(seed=seed, scratch=Path(folder))
        flagged = MinHash().run(dirty, context).findings[0].flagged["row_id"]
        verdict = MinHash().run(Dataset.of(clean, roles), context).findings[0].verdict
    right = int((flagged >= ROWS).sum())
    counts = {
        "recall at two of 120 words replaced": (right, COPIES),
        "precision": (right, len(flagged)),
        "false alarms on clean texts": (int(verdict != "clean"), 1),
    }
    return counts, [(f"near copies, seed {seed}", dirty)]
