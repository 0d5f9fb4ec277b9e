# SPDX-License-Identifier: Apache-2.0
"""Rows of three classes from thirty contributors, one of whom moves two labels in five."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning.source_shift import SourceShift

SEEDS, CLEAN_SEEDS = range(60), range(120)
FLOORS = {"power": 0.8, "source named": 0.8}
CEILINGS = {"alarms": 0.12}
SOURCES, EACH, MOVED = 30, 40, 0.4


def trial(context):
    """Whether the bad contributor was found, and named first."""
    data, bad = contributed(context.seed, moved=MOVED)
    found = SourceShift().run(data, context).findings[0]
    return {
        "power": (int(found.verdict in {"suspect", "fail"}), 1),
        "source named": (int(found.details.get("source") == bad), 1),
    }, data


def alarm(context):
    """Whether a contributor was accused where all are honest."""
    data, _ = contributed(context.seed, moved=0.0)
    return SourceShift().run(data, context).findings[0].verdict in {"suspect", "fail"}


def contributed(seed, *, moved):
    """The rows, and who moved labels."""
    rng = np.random.default_rng(seed)
    n = SOURCES * EACH
    labels = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 4)) + 2.2 * np.eye(4)[labels]
    who, bad = rng.permutation(np.arange(n) % SOURCES), int(rng.integers(SOURCES))
    labels = np.where((who == bad) & (rng.random(n) < moved), (labels + 1) % 3, labels)
    columns = {f"x{i}": x[:, i] for i in range(4)}
    frame = pl.DataFrame({**columns, "y": labels, "who": who})
    return Dataset.of(frame, Roles.of(label="y", source="who")), str(bad)
