# SPDX-License-Identifier: Apache-2.0
"""Undamaged digits: how many held-out rows are predicted rightly whatever five rows may do."""

from __future__ import annotations

from datapipe.stages.poisoning.certify import CertifyPoisoning
from datapipe.testing.worlds import digits_world

SEEDS = range(10)
SAMPLE = 2
FLOORS = {"certified": 0.2}
CEILINGS: dict[str, float] = {}


def trial(context):
    """The share of held-out rows that keep their right prediction."""
    data = digits_world(context.seed, damaged=False).dataset()
    measure = CertifyPoisoning().run(data, context).findings[0].measure
    return {"certified": (round(measure.value * measure.n), measure.n)}, data
