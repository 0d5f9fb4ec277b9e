# SPDX-License-Identifier: Apache-2.0
"""The twenty steps of `trivial_steps` in Kedro: in memory, or with a Parquet data set a step."""

from __future__ import annotations

import json
import logging
import resource
import shutil
import sys
import time
from pathlib import Path

import polars as pl
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner

logging.disable(logging.CRITICAL)
frame = pl.read_ipc(Path(sys.argv[1]) / "in")


class Parquet(AbstractDataset):
    """A data set in a file, as `kedro_datasets` has one for polars."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> pl.DataFrame:
        """Read it."""
        return pl.read_parquet(self._path)

    def save(self, data: pl.DataFrame) -> None:
        """Write it."""
        data.write_parquet(self._path)

    def _describe(self):
        return {"path": str(self._path)}


def add(rows: pl.DataFrame) -> pl.DataFrame:
    """One step."""
    return rows.with_columns(a=pl.col("a") + 1)


place = Path(sys.argv[1]) / "kedro"
shutil.rmtree(place, ignore_errors=True)
place.mkdir()
before = time.process_time()
steps = pipeline([node(add, f"f{n}", f"f{n + 1}", name=f"n{n}") for n in range(20)])
held = {f"f{n}": MemoryDataset(copy_mode="assign") for n in range(1, 21)}
if sys.argv[3]:
    held = {name: Parquet(place / f"{name}.parquet") for name in held}
catalog = DataCatalog({"f0": MemoryDataset(frame, copy_mode="assign"), **held})
made = SequentialRunner().run(steps, catalog)
last = made.get("f20") if made else None
rows = last.load() if hasattr(last, "load") else (last if last is not None else catalog.load("f20"))
total = int(rows["a"].sum())
spent = time.process_time() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
told = {"cpu_seconds": spent, "peak_bytes": peak, "outcome": total}
print(json.dumps(told) if sys.argv[2] else total)
