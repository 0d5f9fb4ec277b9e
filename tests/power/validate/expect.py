# SPDX-License-Identifier: Apache-2.0
"""Tables with planted violations of four rules, and tables without any."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.stages.validate.expect import Expect

SEEDS, CLEAN_SEEDS = range(20), range(40)
FLOORS = {"violations marked": 0.99}
CEILINGS = {"sound rows marked": 0.01, "alarms": 0.1}
ROWS, BROKEN = 1000, 25
RULES = [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "age", "min_value": 0,
     "max_value": 120}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "city"}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "kind",
     "value_set": ["a", "b"]}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "number"}},
]  # fmt: skip


def trial(context):
    """Break each rule on rows of its own and compare with the rows that are marked."""
    columns, rng = sound(context)
    rows = rng.choice(ROWS, (4, BROKEN), replace=False)
    columns["age"][rows[0]] = rng.choice([-1, 121, 999], BROKEN)
    columns["city"][rows[1]] = None
    columns["kind"][rows[2]] = "c"
    columns["number"][rows[3]] = columns["number"][rows[3][0]]
    data = Dataset.of(pl.DataFrame({k: v.tolist() for k, v in columns.items()}))
    found = Expect(RULES).run(data, context).findings
    right = wrong = 0
    for finding, own in zip(found, rows, strict=True):
        marked = set(finding.flagged["row_id"].to_list())
        right += len(marked & {*own.tolist()})
        wrong += len(marked - {*own.tolist()})
    return {
        "violations marked": (right, rows.size),
        "sound rows marked": (wrong, 4 * ROWS - rows.size),
    }, data


def alarm(context):
    """Whether a rule was called broken in a table that keeps them all."""
    columns, _ = sound(context)
    data = Dataset.of(pl.DataFrame({k: v.tolist() for k, v in columns.items()}))
    return any(f.verdict != "clean" for f in Expect(RULES).run(data, context).findings)


def sound(context):
    """Columns that keep all rules, and the randomness that made them."""
    rng = np.random.default_rng(context.seed)
    return {
        "age": rng.integers(0, 121, ROWS),
        "city": rng.choice(["york", "lund", "bath"], ROWS).astype(object),
        "kind": rng.choice(["a", "b"], ROWS).astype(object),
        "number": rng.permutation(ROWS),
    }, rng
