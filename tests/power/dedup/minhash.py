# SPDX-License-Identifier: Apache-2.0
"""Texts of a Zipf vocabulary with planted near copies, against the exact Jaccard similarity."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.dedup.minhash import MinHash

SEEDS, CLEAN_SEEDS = range(20), range(100)
FLOORS = {
    "recall at two of 120 words replaced": 0.95,
    "precision by exact Jaccard": 0.95,
}
CEILINGS = {"alarms": 0.05}
ROWS, COPIES, WORDS, REPLACED = 600, 60, 120, 2
VOCABULARY = np.array([f"w{i}" for i in range(5000)])
USE = 1 / np.arange(3, VOCABULARY.size + 3)


def trial(context):
    """Count the near copies that were found, and how alike the marked ones truly are."""
    rng = np.random.default_rng([context.seed, 1])
    texts = drawn(context)
    copies = texts[rng.choice(ROWS, COPIES, replace=False)].copy()
    for copy in copies:
        copy[rng.choice(WORDS, REPLACED, replace=False)] = rng.choice(VOCABULARY, REPLACED)
    data = dataset(np.vstack([texts, copies]))
    flagged = MinHash().run(data, context).findings[0].flagged["row_id"].to_numpy()
    bags = [set(zip(t, t[1:], t[2:], strict=False)) for t in np.vstack([texts, copies]).tolist()]
    alike = sum(nearest(bags, int(row)) >= 0.75 for row in flagged)
    return {
        "recall at two of 120 words replaced": (int((flagged >= ROWS).sum()), COPIES),
        "precision by exact Jaccard": (alike, len(flagged)),
    }, data


def alarm(context):
    """Whether near copies were seen among texts that share words only."""
    return MinHash().run(dataset(drawn(context)), context).findings[0].verdict != "clean"


def nearest(bags, row):
    """The Jaccard similarity of a text to the most alike of the earlier ones."""
    return max(len(bags[row] & b) / len(bags[row] | b) for b in bags[:row])


def drawn(context):
    """Words of texts, shape (ROWS, WORDS)."""
    rng = np.random.default_rng(context.seed)
    return rng.choice(VOCABULARY, (ROWS, WORDS), p=USE / USE.sum())


def dataset(texts):
    """The texts as a data set."""
    return Dataset.of(pl.DataFrame({"t": [" ".join(t) for t in texts]}), Roles.of(text="t"))
