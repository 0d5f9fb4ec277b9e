# SPDX-License-Identifier: Apache-2.0
"""Answers of annotators of unequal skill: how many items get their true label by votes."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.labels.majority import MajorityVote

SEEDS = range(20)
FLOORS = {"accuracy": 0.8, "accuracy without ties": 0.85}
CEILINGS = {}
SKILLS = (0.92, 0.85, 0.8, 0.7, 0.6, 0.5)
ITEMS, CLASSES, EACH = 300, 3, 5


def trial(context):
    """Count the items whose label is the true one."""
    frame, true = crowd(context.seed)
    data = Dataset.of(frame, Roles.of(id="item", annotator="who", label="said"))
    made = MajorityVote().run(data, context)
    table = next(a for a in made.artifacts if a.name.endswith(".labels"))
    labels = pl.read_parquet(table.path)
    right = labels["label"].to_numpy() == true[labels["item"]]
    untied = ~labels["tied"].to_numpy()
    return {
        "accuracy": (int(right.sum()), ITEMS),
        "accuracy without ties": (int((right & untied).sum()), int(untied.sum())),
    }, data


def crowd(seed):
    """Answers of annotators of known skill, and the true labels."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, CLASSES, ITEMS)
    who = np.concatenate([rng.choice(len(SKILLS), EACH, replace=False) for _ in range(ITEMS)])
    item = np.repeat(np.arange(ITEMS), EACH)
    right = rng.random(item.size) < np.asarray(SKILLS)[who]
    other = (true[item] + rng.integers(1, CLASSES, item.size)) % CLASSES
    said = np.where(right, true[item], other)
    return pl.DataFrame({"item": item, "who": who, "said": said}), true
