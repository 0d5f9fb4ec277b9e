# SPDX-License-Identifier: Apache-2.0
"""The twenty steps of `trivial_steps` in Dagster: in memory, or stored as it does by itself."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import sys
import time
from pathlib import Path

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
import dagster as dg
import polars as pl

logging.disable(logging.CRITICAL)
frame = pl.read_ipc(Path(sys.argv[1]) / "in")


def step(number: int) -> dg.AssetsDefinition:
    """One asset that rests on the one before."""

    @dg.asset(name=f"f{number}", ins={"rows": dg.AssetIn(f"f{number - 1}")})
    def made(rows):
        return rows.with_columns(a=pl.col("a") + 1)

    return made


@dg.asset(name="f0")
def first():
    """The frame in memory."""
    return frame


place = Path(sys.argv[1]) / "dagster"
shutil.rmtree(place, ignore_errors=True)
keeper = dg.FilesystemIOManager(base_dir=str(place)) if sys.argv[3] else dg.mem_io_manager
before = time.process_time()
assets = [first, *(step(number) for number in range(1, 21))]
done = dg.materialize(assets, resources={"io_manager": keeper})
total = int(done.asset_value("f20")["a"].sum())
spent = time.process_time() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
told = {"cpu_seconds": spent, "peak_bytes": peak, "outcome": total}
print(json.dumps(told) if sys.argv[2] else total)
