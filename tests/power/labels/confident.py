# SPDX-License-Identifier: Apache-2.0
"""Digits of which about every tenth label was moved to another class, and digits as they are."""

from __future__ import annotations

from datapipe.stages.labels.confident import ConfidentLearning
from datapipe.testing.worlds import digits_world

SEEDS = CLEAN_SEEDS = range(20)
FLOORS = {"recall": 0.8, "precision": 0.8, "noise rate within its interval": 0.6}
CEILINGS = {"sound labels flagged on undamaged digits": 0.02, "alarms": 0.2}


def trial(context):
    """Count moved labels that were flagged; other planted faults count neither way."""
    world = digits_world(context.seed)
    data = world.dataset()
    noise, issues = looked(data, context)
    flagged = data.row_ids.is_in(issues.flagged["row_id"].implode()).to_numpy()
    flipped = world.planted("flipped")
    other = world.planted("triggered") | world.planted("synthetic") | world.planted("missing")
    right = int((flagged & flipped).sum())
    truth = float((world.planted("flipped") | world.planted("triggered")).mean())
    sound = digits_world(context.seed, damaged=False).dataset()
    wrong = looked(sound, context)[1].flagged.height
    return {
        "recall": (right, int(flipped.sum())),
        "precision": (right, int((flagged & (flipped | ~other)).sum())),
        "noise rate within its interval": (int(noise.low <= truth <= noise.high), 1),
        "sound labels flagged on undamaged digits": (wrong, len(sound)),
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
