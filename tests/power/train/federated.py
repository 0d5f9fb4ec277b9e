# SPDX-License-Identifier: Apache-2.0
"""Digits dealt to ten clients: accuracy of the averaged model on rows that were never seen."""

from __future__ import annotations

import polars as pl

from datapipe.stages.train.federated import TrainFederated
from datapipe.testing.worlds import digits_world

SEEDS, SAMPLE = range(20), 1
FLOORS = {"held-out accuracy": 0.8}
CEILINGS = {}


def trial(context):
    """Train on undamaged digits and count the right answers about the rows held apart."""
    world = digits_world(context.seed, damaged=False)
    test = context.scratch / "test.parquet"
    pl.DataFrame(world.test).write_parquet(test)
    data = world.dataset()
    made = TrainFederated(clients=10, rounds=15, test=test).run(data, context)
    accuracy = made.findings[0].measure
    right = round(accuracy.value * accuracy.n)
    return {"held-out accuracy": (right, accuracy.n)}, data
