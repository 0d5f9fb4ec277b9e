# SPDX-License-Identifier: Apache-2.0
"""A crowd with one bot and one annotator whose skill falls: both named, the others left alone."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.labels.annotators import JudgeAnnotators

SEEDS = CLEAN_SEEDS = range(20)
FLOORS = {"bot named": 0.8, "fall named": 0.8}
CEILINGS = {"others named": 0.05, "alarms": 0.2}
ITEMS, CLASSES, PEOPLE = 900, 3, 7


def crowd(seed, *, sound=False):
    """Everybody answers every item; the last is a bot, the one before falls from 0.9 to 0.5."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, CLASSES, ITEMS)
    skill = np.tile(np.linspace(0.9, 0.75, PEOPLE), (ITEMS, 1))
    if not sound:
        skill[:, -1] = 1 / CLASSES
        skill[:, -2] = np.where(np.arange(ITEMS) < 450, 0.9, 0.5)
    right = rng.random(skill.shape) < skill
    said = np.where(right, true[:, None], (true[:, None] + rng.integers(1, 3, skill.shape)) % 3)
    item, who = np.repeat(np.arange(ITEMS), PEOPLE), np.tile(np.arange(PEOPLE), ITEMS)
    frame = pl.DataFrame({"item": item, "who": who, "said": said.ravel()})
    return Dataset.of(frame, Roles.of(id="item", annotator="who", label="said"))


def trial(context):
    """Whether the bot and the fall were named, and who else."""
    data = crowd(context.seed)
    made = JudgeAnnotators().run(data, context)
    people = pl.read_parquet(made.artifacts[0].path)
    at_chance = set(people.filter("at_chance")["annotator"].to_list())
    fallen = set(people.filter(pl.col("drift_since").is_not_null())["annotator"].to_list())
    others = (at_chance - {PEOPLE - 1}) | (fallen - {PEOPLE - 2})
    return {
        "bot named": (int(PEOPLE - 1 in at_chance), 1),
        "fall named": (int(PEOPLE - 2 in fallen), 1),
        "others named": (len(others), PEOPLE),
    }, data


def alarm(context):
    """Whether anybody of a sound crowd was doubted."""
    found = JudgeAnnotators().run(crowd(context.seed, sound=True), context).findings
    return any(f.verdict != "clean" for f in found)
