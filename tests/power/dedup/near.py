# SPDX-License-Identifier: Apache-2.0
"""Digits with 60 noisy copies among other faults, and digits without any fault."""

from __future__ import annotations

from datapipe.stages.dedup.near import NearDuplicates
from datapipe.testing.worlds import digits_world

SEEDS, CLEAN_SEEDS = range(20), range(60)
FLOORS = {"recall": 0.9, "precision": 0.85}
CEILINGS = {"alarms": 0.1}


def trial(context):
    """Count planted pairs with a marked member, and marked rows that belong to such a pair."""
    world = digits_world(context.seed)
    data = world.dataset()
    marked = set(NearDuplicates().run(data, context).findings[0].flagged["row_id"].to_list())
    pairs = planted_pairs(world)
    found = sum(bool(marked & {*pair}) for pair in pairs)
    members = {row for pair in pairs for row in pair}
    return {"recall": (found, len(pairs)), "precision": (len(marked & members), len(marked))}, data


def alarm(context):
    """Whether copies were seen among digits that nobody copied."""
    data = digits_world(context.seed, damaged=False).dataset()
    return NearDuplicates().run(data, context).findings[0].verdict != "clean"


def planted_pairs(world):
    """Row ids of each copy and its original."""
    number = {name: i for i, name in enumerate(world.sources, start=1)}
    return [
        ((number[name] << 40) + int(copy), (number[source] << 40) + original)
        for name, truth in world.truth.items()
        for copy, (source, original) in zip(truth.duplicated, truth.duplicate_of, strict=True)
    ]
