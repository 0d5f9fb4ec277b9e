# SPDX-License-Identifier: Apache-2.0
"""Digits of which every tenth label was moved to another class."""

from __future__ import annotations

import tempfile
from pathlib import Path

from datapipe.core.context import Context
from datapipe.stages.labels.confident import ConfidentLearning
from datapipe.testing.worlds import digits_world

SEEDS = range(5)
FLOORS = {"recall": 0.8, "precision": 0.8}
CEILINGS = {}


def trial(seed: int):
    """Count the moved labels that were flagged; other planted faults are not counted either way."""
    world = digits_world(seed)
    data = world.dataset()
    with tempfile.TemporaryDirectory() as folder:
        made = ConfidentLearning().run(data, Context(seed=seed, scratch=Path(folder)))
    issues = next(f for f in made.findings if f.rows is not None)
    flagged = data.row_ids.is_in(issues.flagged["row_id"].implode()).to_numpy()
    flipped = world.planted("flipped")
    other = world.planted("triggered") | world.planted("synthetic") | world.planted("missing")
    right = int((flagged & flipped).sum())
    counts = {
        "recall": (right, int(flipped.sum())),
        "precision": (right, int((flagged & ~(other & ~flipped)).sum())),
    }
    return counts, [(f"digits, seed {seed}", data)]
