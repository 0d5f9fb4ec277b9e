# SPDX-License-Identifier: Apache-2.0
"""A run says how far it has come to whoever listens, and nothing otherwise."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl
import pyarrow as pa

from datapipe import Dataset, Pipeline, RowStage, Stage, Yield
from datapipe.core.artifact import PrivacyEvent
from datapipe.core.context import Context


@dataclass(frozen=True)
class Third(RowStage):
    name: ClassVar[str] = "test.third"

    def set_aside(self, roles, types):
        return {"third": pl.col("a") % 3 == 0}


@dataclass(frozen=True)
class Spends(Stage):
    name: ClassVar[str] = "test.spends"

    def run(self, data: Dataset, context: Context) -> Yield:
        event = PrivacyEvent("dp-sgd", 1.0, 0.1, 10, 1.5, 1e-5, 1.0)
        return Yield(privacy=(event,))


def test_each_group_has_a_line_with_rows_memory_budget_and_time(tmp_path: Path, caplog):
    pipeline = Pipeline("p", [Third(), Spends()])
    rows = Dataset.of(pa.table({"a": list(range(90))}))
    assert pipeline.run(rows, seed=1, store=tmp_path / "s").data is not None
    assert not any(": step " in m for m in caplog.messages)
    with caplog.at_level(logging.INFO, "datapipe.execute"):
        pipeline.run(rows, seed=2, store=tmp_path / "s")
    first, second = [m for m in caplog.messages if ": step " in m]
    assert first.startswith("test.third: step 1 of 2, 90 rows in ")
    assert "rows/s), 30 set aside, " in first
    assert " MB at most" in first
    assert "s left" in first
    assert second.startswith("test.spends: step 2 of 2, 60 rows in ")
    assert second.endswith("epsilon 1.5 so far")
    caplog.clear()
    with caplog.at_level(logging.INFO, "datapipe.execute"):
        pipeline.run(rows, seed=2, store=tmp_path / "s")
    assert "90 rows, reused" in caplog.messages[0]
