# SPDX-License-Identifier: Apache-2.0
"""Crowds of three kinds, each best joined by another method: labels, and how sure they are."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.labels.aggregate import AggregateAnswers

SEEDS = range(20)
FLOORS = {"accuracy": 0.9, "gain over votes": 0.02}
CEILINGS = {"over-confidence": 0.1}
ITEMS, CLASSES, EACH = 200, 3, 5
CROWDS = (
    (0.95, 0.93, 0.9, 0.65, 0.6, 0.55, 0.5),
    (0.85,) * 9,
    (0.95, 0.95, 0.9, 0.9, 1 / 3, 1 / 3, 1 / 3),
)


def trial(context):
    """Count the items whose label is the true one, and how far posteriors lie above that."""
    skills = CROWDS[context.seed % len(CROWDS)]
    rng = np.random.default_rng(context.seed)
    true = rng.integers(0, CLASSES, ITEMS)
    who = np.concatenate([rng.choice(len(skills), EACH, replace=False) for _ in range(ITEMS)])
    item = np.repeat(np.arange(ITEMS), EACH)
    right = rng.random(item.size) < np.asarray(skills)[who]
    said = np.where(right, true[item], (true[item] + rng.integers(1, CLASSES, item.size)) % CLASSES)
    frame = pl.DataFrame({"item": item, "who": who, "said": said})
    data = Dataset.of(frame, Roles.of(id="item", annotator="who", label="said"))
    made = AggregateAnswers().run(data, context)
    table = next(a for a in made.artifacts if a.name.endswith(".labels"))
    labels = pl.read_parquet(table.path)
    good = labels["label"].to_numpy() == true[labels["item"]]
    return {
        "accuracy": (int(good.sum()), ITEMS),
        "gain over votes": float(good.mean()) - voted(frame, true),
        "over-confidence": max(0.0, float(labels["posterior"].mean()) - float(good.mean())),
    }, data


def voted(frame, true):
    """The accuracy of the most frequent answer, ties broken by lot."""
    votes = np.zeros((ITEMS, CLASSES))
    np.add.at(votes, (frame["item"], frame["said"]), 1)
    top = votes >= votes.max(1, keepdims=True)
    return float((top[np.arange(ITEMS), true] / top.sum(1)).mean())
