# SPDX-License-Identifier: Apache-2.0
# Prints:
#     examples.far_out: … ran, … skipped, 0 failed
#     suspect: 2 of 200 values of x lie far out, 0.01 […, …] (n=200, wilson)
#     198 rows left
"""A detector of your own: it marks rows, `on_finding` says what is done, `check_stage` tries it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from datapipe import Dataset, Estimate, Finding, Pipeline, Stage, Yield
from datapipe.core.context import Context
from datapipe.core.finding import scored_rows
from datapipe.core.parameters import Positive
from datapipe.core.stage import OnFinding
from datapipe.testing import check_stage


@dataclass(frozen=True)
class FarOut(Stage):
    """Marks values far from the median, in units of the median absolute deviation."""

    name: ClassVar[str] = "examples.far_out"
    raises_findings: ClassVar[tuple[str, ...]] = ("examples.far_out",)

    column: str = "x"
    most: Positive = 6.0
    on_finding: OnFinding = "note"

    def run(self, data: Dataset, context: Context) -> Yield:
        """Score each row by its distance from the median."""
        frame = data.frame([self.column], row_id=True).drop_nulls()
        x = frame[self.column].cast(pl.Float64).to_numpy()
        spread = float(np.median(np.abs(x - np.median(x)))) if len(x) else 0.0
        if not spread:
            return self.not_evaluated(f"{self.column} has no spread")
        score = np.abs(x - np.median(x)) / spread
        hits = int((score > self.most).sum())
        finding = Finding(
            self.name,
            "suspect" if hits else "clean",
            Estimate.rate(hits, len(x)),
            f"{hits} of {len(x)} values of {self.column} lie far out",
            rows=scored_rows(frame["_row_id"], score, flagged=score > self.most, reason="far out"),
        )
        return Yield(findings=(finding,))


values = np.random.default_rng(1).uniform(-1, 1, 200)
values[[17, 101]] = (40.0, -60.0)

print(str(check_stage(FarOut(column="x0"))).splitlines()[0])
with tempfile.TemporaryDirectory() as store:
    run = Pipeline("own", [FarOut(on_finding="quarantine")]).run(
        pl.DataFrame({"x": values}), seed=7, store=store
    )
    found = run.finding("examples.far_out")
    print(f"{found.verdict}: {found.says}, {found.measure}")
    print(f"{len(run.data)} rows left")
