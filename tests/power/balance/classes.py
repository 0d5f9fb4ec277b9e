# SPDX-License-Identifier: Apache-2.0
"""Labels drawn with known chances: even ones, and ones with a class that is too thin."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.balance.classes import ClassBalance

SEEDS, CLEAN_SEEDS = range(300), range(300)
FLOORS = {"thin class named": 0.9, "intervals hold the share": 0.9}
CEILINGS = {"others named": 0.02, "alarms": 0.05}
ROWS, CLASSES, THIN = 2000, 8, 0.3


def trial(context):
    """One class is drawn with three tenths of the others' chance."""
    rng = np.random.default_rng(context.seed)
    chances = np.ones(CLASSES)
    thin = int(rng.integers(CLASSES))
    chances[thin] = THIN
    chances /= chances.sum()
    data = drawn(rng, chances)
    told = ClassBalance().run(data, context).findings[0].details
    shares = {int(c["name"]): c["share"] for c in told["classes"]}
    held = sum(s["low"] <= chances[k] <= s["high"] for k, s in shares.items())
    return {
        "thin class named": (int(str(thin) in told["thin"]), 1),
        "others named": (len({*told["thin"]} - {str(thin)}), CLASSES - 1),
        "intervals hold the share": (held, len(shares)),
    }, data


def alarm(context):
    """Whether a class was called thin where all have the same chance."""
    rng = np.random.default_rng([context.seed, 1])
    data = drawn(rng, np.full(CLASSES, 1 / CLASSES))
    return ClassBalance().run(data, context).findings[0].verdict != "clean"


def drawn(rng, chances):
    """Labels drawn with given chances."""
    labels = rng.choice(CLASSES, ROWS, p=chances)
    return Dataset.of(pl.DataFrame({"y": labels}), Roles.of(label="y"))
