# SPDX-License-Identifier: Apache-2.0
"""Digits of which about every tenth label was moved to another class, and digits as they are."""

from __future__ import annotations

from datapipe.stages.labels.confident import ConfidentLearning
from datapipe.testing.worlds import digits_world

SEEDS = CLEAN_SEEDS = range(20)
SAMPLE = 2
FLOORS = {"recall": 0.8, "precision": 0.8, "interval holds the share moved": 0.6}
CEILINGS = {"alarms": 0.2}


def trial(context):
    """Count moved labels that were flagged; other planted faults count neither way."""
    world = digits_world(context.seed)
    data = world.dataset()
    noise, issues = looked(data, context)
    flagged = data.row_ids.is_in(issues.flagged["row_id"].implode()).to_numpy()
    flipped = world.planted("flipped")
    other = world.planted("triggered") | world.planted("synthetic") | world.planted("missing")
    right = int((flagged & flipped).sum())
    moved = float(flipped.mean())
    return {
        "recall": (right, int(flipped.sum())),
        "precision": (right, int((flagged & (flipped | ~other)).sum())),
        "interval holds the share moved": (int(noise.low <= moved <= noise.high), 1),
    }, data


def alarm(context):
    """Whether the labels of undamaged digits were doubted."""
    data = digits_world(context.seed, damaged=False).dataset()
    return any(f.verdict != "clean" for f in ConfidentLearning().run(data, context).findings)


def looked(data, context):
    """The noise rate and the finding that marks rows."""
    found = ConfidentLearning().run(data, context).findings
    noise = next(f for f in found if f.kind == "labels.noise")
    return noise.measure, next(f for f in found if f.rows is not None)
