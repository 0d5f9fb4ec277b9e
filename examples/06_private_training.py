# SPDX-License-Identifier: Apache-2.0
# Prints:
#     accuracy 0.… [0.…, 0.…] (n=…, …)
#     within the budget of 3: True
#     no more: …budget…
#     exit code 5
"""Differentially private training: what was spent is recorded, and overspending is refused."""

from __future__ import annotations

import tempfile

import numpy as np
import polars as pl

from datapipe import Pipeline, Roles
from datapipe.errors import BudgetSpent
from datapipe.stages import TrainPrivately

rng = np.random.default_rng(3)
label = rng.integers(0, 2, 1000)
rows = pl.DataFrame(
    {"a": label + rng.normal(0, 0.4, 1000), "b": rng.normal(0, 1, 1000), "y": label}
)
roles = Roles.of(label="y")

with tempfile.TemporaryDirectory() as store:
    first = TrainPrivately(epsilon=3.0, delta=1e-5, epochs=2)
    run = Pipeline("private", [first]).run(rows, seed=7, store=store, roles=roles)
    print(f"accuracy {run.finding('train.private').measure}")
    spent = run.sql("select epsilon_sum_bound from privacy_spend")["epsilon_sum_bound"][0]
    print(f"within the budget of 3: {0 < spent <= 3}")

    again = TrainPrivately(epsilon=1.0, delta=1e-5, epochs=2, budget=3.0)
    try:
        Pipeline("private", [again]).run(rows, seed=8, store=store, roles=roles)
    except BudgetSpent as refused:
        print("no more:", refused.message)
        print(f"exit code {refused.exit_code}")
