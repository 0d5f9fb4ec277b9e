# SPDX-License-Identifier: Apache-2.0
"""Favourable labels drawn with known chances in each group: equal ones, and one group behind."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.balance.groups import GroupBalance

SEEDS, CLEAN_SEEDS = range(300), range(300)
FLOORS = {"group behind named": 0.9, "intervals hold the difference": 0.9}
CEILINGS = {"alarms": 0.05}
ROWS = 3000
EQUAL = dict.fromkeys("abcdef", 0.4)
BEHIND = {"a": 0.4, "b": 0.4, "c": 0.22}


def trial(context):
    """One group of three gets the favourable label about half as often."""
    data = drawn(np.random.default_rng(context.seed), BEHIND)
    told = GroupBalance().run(data, context).findings[0].details
    sizes = data.frame()["g"].value_counts()
    sizes = dict(zip(sizes["g"], sizes["count"], strict=True))
    held = 0
    for line in told["groups"]:
        own = line["group"]
        rest = [g for g in BEHIND if g != own]
        others = sum(BEHIND[g] * sizes[g] for g in rest) / sum(sizes[g] for g in rest)
        held += line["difference"]["low"] <= BEHIND[own] - others <= line["difference"]["high"]
    return {
        "group behind named": (int({"label": "1", "group": "c"} in told["unlike"]), 1),
        "intervals hold the difference": (held, len(told["groups"])),
    }, data


def alarm(context):
    """Whether a group was accused where all have the same chance."""
    data = drawn(np.random.default_rng([context.seed, 1]), EQUAL)
    return GroupBalance().run(data, context).findings[0].verdict != "clean"


def drawn(rng, rates):
    """Groups at random, labels with the chance of their group."""
    groups = rng.choice(list(rates), ROWS)
    labels = rng.random(ROWS) < np.array([rates[g] for g in groups])
    frame = pl.DataFrame({"g": groups, "y": labels.astype(np.int64)})
    return Dataset.of(frame, Roles.of(label="y", group="g"))
