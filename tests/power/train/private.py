# SPDX-License-Identifier: Apache-2.0
"""Digits, trained with epsilon 3: accuracy on rows never seen, and the budget kept."""

from __future__ import annotations

import polars as pl

from datapipe.stages.train.private import TrainPrivately
from datapipe.testing.worlds import digits_world

SEEDS, SAMPLE = range(20), 1
FLOORS = {"held-out accuracy": 0.75}
CEILINGS = {}


def trial(context):
    """Train on undamaged digits and count the right answers about the rows held apart."""
    world = digits_world(context.seed, damaged=False)
    test = context.scratch / "test.parquet"
    pl.DataFrame(world.test).write_parquet(test)
    data = world.dataset()
    made = TrainPrivately(epsilon=3.0, delta=1e-5, test=test).run(data, context)
    accuracy = made.findings[0].measure
    right = round(accuracy.value * accuracy.n)
    return {"held-out accuracy": (right, accuracy.n)}, data
