# SPDX-License-Identifier: Apache-2.0
"""Digits with a corner trigger on 36 rows among other faults, and digits without any fault."""

from __future__ import annotations

from datapipe.stages.poisoning.trigger_image import TriggerImage
from datapipe.testing.worlds import digits_world

SEEDS, CLEAN_SEEDS = range(20), range(60)
FLOORS = {"power": 0.8, "target class named": 0.8, "recall": 0.8, "precision": 0.8}
CEILINGS = {"alarms": 0.1}


def trial(context):
    """Whether the trigger was seen, its class named, and which rows were marked."""
    world = digits_world(context.seed)
    data = world.dataset()
    found = TriggerImage().run(data, context).findings[0]
    marked = data.row_ids.is_in(found.flagged["row_id"].implode()).to_numpy()
    planted = world.planted("triggered")
    right = int((marked & planted).sum())
    named = found.details.get("class") == str(world.trigger["target"])
    return {
        "power": (int(found.verdict in {"suspect", "fail"}), 1),
        "target class named": (int(named), 1),
        "recall": (right, int(planted.sum())),
        "precision": (right, int(marked.sum())),
    }, data


def alarm(context):
    """Whether a trigger was seen in undamaged digits."""
    data = digits_world(context.seed, damaged=False).dataset()
    return TriggerImage().run(data, context).findings[0].verdict in {"suspect", "fail"}
