# SPDX-License-Identifier: Apache-2.0
"""Digits with labels moved at random or from one class to another, and undamaged digits."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning.flips import LabelFlips
from datapipe.testing.worlds import digits_world

SEEDS, CLEAN_SEEDS = range(40), range(40)
FLOORS = {"power": 0.6, "pattern told": 0.6, "recall": 0.65, "precision": 0.9}
CEILINGS = {"alarms": 0.1}
RANDOM, AIMED = 120, 60


def trial(context):
    """Even seeds move labels at random, odd ones labels of one class to another."""
    aimed = bool(context.seed % 2)
    data, moved = flipped(context.seed, aimed=aimed)
    found = LabelFlips().run(data, context).findings[0]
    marked = found.rows.sort("row_id")["flagged"].to_numpy()
    right = int((marked & moved).sum())
    told = found.details.get("pattern") == ("targeted" if aimed else "random")
    return {
        "power": (int(found.verdict in {"suspect", "fail"}), 1),
        "pattern told": (int(told), 1),
        "recall": (right, int(moved.sum())),
        "precision": (right, int(marked.sum())),
    }, data


def alarm(context):
    """Whether the labels of undamaged digits were doubted."""
    data = digits_world(context.seed, damaged=False).dataset()
    return LabelFlips().run(data, context).findings[0].verdict in {"suspect", "fail"}


def flipped(seed, *, aimed):
    """Undamaged digits with some labels moved, and which."""
    frame = digits_world(seed, damaged=False).dataset().frame()
    labels = frame["label"].to_numpy().copy()
    rng = np.random.default_rng(seed)
    first, second = rng.choice(10, 2, replace=False)
    rows = rng.permutation(np.flatnonzero(labels == first) if aimed else labels.size)
    rows = rows[: AIMED if aimed else RANDOM]
    labels[rows] = second if aimed else (labels[rows] + rng.integers(1, 10, rows.size)) % 10
    moved = np.isin(np.arange(labels.size), rows)
    roles = Roles.of(image="image", label="label")
    return Dataset.of(frame.with_columns(label=pl.Series(labels)), roles), moved
