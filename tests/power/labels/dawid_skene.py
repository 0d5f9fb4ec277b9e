# SPDX-License-Identifier: Apache-2.0
"""Answers of few good and many poor annotators and one bot: items labelled, the bot named."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.labels.dawid_skene import DawidSkene

SEEDS = range(20)
FLOORS = {"accuracy": 0.9, "gain over votes": 0.02, "bot named": 0.8}
CEILINGS = {"others named": 0.05}
SKILLS = (0.95, 0.93, 0.9, 0.65, 0.6, 0.55, 1 / 3)
"""The last one answers at random."""
ITEMS, CLASSES, EACH = 300, 3, 5


def trial(context):
    """Count the items whose label is the true one, and the annotators said to be at chance."""
    frame, true = crowd(context.seed)
    data = Dataset.of(frame, Roles.of(id="item", annotator="who", label="said"))
    made = DawidSkene().run(data, context)
    tables = {a.name.partition(".")[2]: pl.read_parquet(a.path) for a in made.artifacts}
    right = tables["labels"]["label"].to_numpy() == true[tables["labels"]["item"]]
    named = tables["annotators"].filter("at_chance")["annotator"].to_list()
    return {
        "accuracy": (int(right.sum()), ITEMS),
        "gain over votes": float(right.mean()) - voted(frame, true),
        "bot named": (int(len(SKILLS) - 1 in named), 1),
        "others named": (len({*named} - {len(SKILLS) - 1}), len(SKILLS) - 1),
    }, data


def voted(frame, true):
    """The accuracy of the most frequent answer, ties broken by lot."""
    votes = np.zeros((ITEMS, CLASSES))
    np.add.at(votes, (frame["item"], frame["said"]), 1)
    own = votes[np.arange(ITEMS), true]
    votes[np.arange(ITEMS), true] = -1
    ties = (votes == own[:, None]).sum(axis=1)
    return float(np.where(votes.max(axis=1) > own, 0, 1 / (1 + ties)).mean())


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
