# SPDX-License-Identifier: Apache-2.0
"""Digits with a patch on 80 rows and no other fault, and digits without any; 360 trusted rows."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.stages.poisoning.activations import ActivationOutliers
from datapipe.testing.worlds import digits_world

SEEDS, CLEAN_SEEDS, SAMPLE = range(10), range(20), 1
FLOORS = {"power": 0.4, "target class named": 0.4, "recall": 0.3, "precision": 0.5}
CEILINGS = {"alarms": 0.25}
POISONED, SIDE, TOP = 80, 8, 16.0


def trial(context):
    """Stamp a patch of 2 x 2 on rows of other classes, and call them one class."""
    world = digits_world(context.seed, damaged=False)
    data, planted, target = stamped(world.dataset(), context.seed)
    found = _look(world, data, context)
    marked = data.row_ids.is_in(found.flagged["row_id"].implode()).to_numpy()
    right = int((marked & planted).sum())
    return {
        "power": (int(found.verdict in {"suspect", "fail"}), 1),
        "target class named": (int(found.details["class"] == str(target)), 1),
        "recall": (right, POISONED),
        "precision": (right, int(marked.sum())),
    }, data


def alarm(context):
    """Whether undamaged digits were doubted."""
    world = digits_world(context.seed, damaged=False)
    return _look(world, world.dataset(), context).verdict in {"suspect", "fail"}


def stamped(data, seed):
    """The data with a patch on rows of other classes, which rows, and the class they are called."""
    rng = np.random.default_rng([seed, 1])
    frame = data.frame(row_id=True)
    images = np.array(frame["image"].to_list(), np.float32).reshape(-1, SIDE, SIDE)
    labels = frame["label"].to_numpy().copy()
    target = int(rng.integers(10))
    rows = rng.permutation(np.flatnonzero(labels != target))[:POISONED]
    top, left = rng.integers(SIDE - 1, size=2)
    images[rows, top : top + 2, left : left + 2] = [[TOP, 0.0], [0.0, TOP]]
    labels[rows] = target
    pixels = pl.Series("image", images.reshape(len(images), -1), dtype=frame["image"].dtype)
    made = frame.with_columns(pixels, pl.Series("label", labels, dtype=frame["label"].dtype))
    return Dataset.of(made, data.roles), np.isin(np.arange(labels.size), rows), target


def _look(world, data, context):
    trusted = context.scratch / "trusted.parquet"
    pl.DataFrame(world.test).write_parquet(trusted)
    return ActivationOutliers(reference=str(trusted)).run(data, context).findings[0]
