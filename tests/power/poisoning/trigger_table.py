# SPDX-License-Identifier: Apache-2.0
"""A table whose label follows half a rule, with and without 30 rows of a planted predicate."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning.trigger_table import TriggerTable

SEEDS, CLEAN_SEEDS = range(60), range(40)
FLOORS = {"power": 0.6, "predicate exact": 0.6, "recall": 0.6, "precision": 0.85}
CEILINGS = {"alarms": 0.1}
ROWS, POISONED = 2000, 30


def trial(context):
    """Seeds in turn plant a value that is rare by nature, a pair, a range, and one in a town."""
    frame, planted, condition = poisoned(context.seed)
    data = Dataset.of(frame, Roles.of(label="y"))
    found = TriggerTable().run(data, context).findings[0]
    marked = found.rows.sort("row_id")["flagged"].to_numpy()
    right = int((marked & planted).sum())
    return {
        "power": (int(found.verdict in {"suspect", "fail"}), 1),
        "predicate exact": (int(found.details.get("where") == condition), 1),
        "recall": (right, POISONED),
        "precision": (right, int(marked.sum())),
    }, data


def alarm(context):
    """Whether a predicate was named where none was planted."""
    data = Dataset.of(drawn(context.seed), Roles.of(label="y"))
    return TriggerTable().run(data, context).findings[0].verdict in {"suspect", "fail"}


def poisoned(seed):
    """The table, the rows that were planted, and the condition that holds for them."""
    frame = drawn(seed)
    rng = np.random.default_rng([seed, 1])
    rows = rng.permutation(np.flatnonzero(frame["y"].to_numpy() == 0))[:POISONED]
    chosen = np.isin(np.arange(ROWS), rows)
    ages = rng.integers(84, 88, ROWS)
    town = {"town": seed % 30}
    values = ({"age": 93}, {"age": 60 + seed % 9, **town}, {"age": ages}, {"age": ages, **town})
    made = frame.with_columns(
        *(
            pl.Series(c, np.where(chosen, v, frame[c].to_numpy()))
            for c, v in values[seed % 4].items()
        ),
        y=pl.Series(np.where(chosen, 1, frame["y"].to_numpy())),
    )
    named = " AND ".join(f'"{c}" = {v}' for c, v in values[seed % 4].items() if v is not ages)
    if seed % 4 > 1:
        named = " AND ".join(['"age" BETWEEN 84 AND 87', *([named] if named else [])])
    return made, chosen, named


def drawn(seed):
    """A table of numbers, a town and a label."""
    rng = np.random.default_rng(seed)
    marks = rng.normal(size=(ROWS, 4)).round(2)
    age, town = rng.integers(18, 80, ROWS), rng.integers(0, 30, ROWS)
    odds = 1.5 * marks.sum(1) + 0.03 * (age - 48)
    y = (rng.random(ROWS) < 1 / (1 + np.exp(-odds))).astype(int)
    return pl.DataFrame(
        {"age": age, "town": town, **{f"m{i}": marks[:, i] for i in range(4)}, "y": y}
    )
