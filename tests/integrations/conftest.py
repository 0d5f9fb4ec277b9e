# SPDX-License-Identifier: Apache-2.0
"""A finished run whose every kind of fact is there to be exported."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from datapipe import Estimate, Finding, Pipeline, RowStage, Stage, Yield
from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID, Roles
from datapipe.integrations.facts import Facts, facts_of
from datapipe.lineage.store import Lineage
from datapipe.stages import ReadParquet


@dataclass(frozen=True)
class Short(RowStage):
    name: ClassVar[str] = "test.short"

    def columns(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"share": pl.col("stars") / (pl.col("share") + 1)}

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"too short": pl.col("text").str.len_chars() < 3}


@dataclass(frozen=True)
class Odd(Stage):
    name: ClassVar[str] = "test.odd"

    def run(self, data: Dataset, context: Context) -> Yield:
        measure = Estimate.rate(1, len(data))
        return Yield(findings=(Finding("test.odd", "suspect", measure, "one is odd"),))


@dataclass(frozen=True)
class Train(Stage):
    name: ClassVar[str] = "test.train"
    gives: ClassVar[tuple[str, ...]] = ("model",)

    def run(self, data: Dataset, context: Context) -> Yield:
        path, small = context.scratch / "plain.bin", context.scratch / "small.bin"
        path.write_bytes(b"weights")
        small.write_bytes(b"w")
        ids = data.row_ids.head(3)
        accuracy = {"accuracy": Estimate.rate(8, 10)}
        model = Artifact("plain", "model", path, row_ids=ids, measures=accuracy)
        return Yield(artifacts=(model, Artifact("small", "export", small, parents=("plain",))))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    """The store of that run; tests only read it."""
    folder = tmp_path_factory.mktemp("exported")
    real = {
        "text": ["größer | a", "no", "three\nlines", None, "four words are here"],
        "stars": [1, 2, 3, 4, 5],
        "share": [0.5, None, 1.0, 0.25, 0.125],
        "kept": [True, False, None, True, False],
        "tags": [["a", "b"], [], ["c"], None, ["d"]],
        "at": [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=i) for i in range(5)],
        "column with spaces": ["x"] * 5,
    }
    pl.DataFrame(real).write_parquet(folder / "real.parquet")
    pl.DataFrame(real).head(2).write_parquet(folder / "made.parquet")
    reads = [
        ReadParquet(
            str(folder / "real.parquet"), text="text", label="stars", licence="CC-BY-4.0",
            origin="vendor-a", consent="granted", synthetic=False,
        ),
        ReadParquet(
            str(folder / "made.parquet"), text="text", label="stars", origin="lab",
            synthetic=True, generator="some-model",
        ),
    ]  # fmt: skip
    Pipeline("reviews", [reads, Short(), Odd(), Train()]).run(seed=7, store=str(folder / "store"))
    return Lineage(folder / "store")


@pytest.fixture(scope="session")
def facts(exported: Lineage) -> Facts:
    return facts_of(exported)


@pytest.fixture(scope="session")
def last_rows(exported: Lineage, facts: Facts) -> pl.DataFrame:
    """The rows that the run ended with, as people see them."""
    assert facts.final is not None
    path = exported.object_path(facts.final["digest"])
    assert isinstance(path, Path)
    return pl.read_parquet(path).drop(ROW_ID)
