# SPDX-License-Identifier: Apache-2.0
# Prints:
#     gate closed: dedup.exact 0.2 (n=500, count) breaks at most 0.1
#     exit code 3
#     recorded as stopped
#     with cleaner rows the gate opens: clean
"""A gate stops the pipeline, reads the bound of the interval, and gives CI its exit code."""

from __future__ import annotations

import tempfile

import polars as pl

from datapipe import Gate, Lineage, Pipeline, at_most
from datapipe.errors import GateClosed
from datapipe.stages import ExactDuplicates

pipeline = Pipeline(
    "nightly", [ExactDuplicates(on_finding="note"), Gate({"dedup.*": at_most(0.1)})]
)
dirty = pl.DataFrame({"x": [*range(400), *range(100)]})
clean = pl.DataFrame({"x": [*range(495), *range(5)]})

with tempfile.TemporaryDirectory() as store:
    try:
        pipeline.run(dirty, seed=7, store=store)
    except GateClosed as closed:
        print(closed.message)
        print(f"exit code {closed.exit_code}")  # what `datapipe run` exits with
    state = Lineage(store).sql("select state from run_status")["state"][0]
    print(f"recorded as {state}")
    run = pipeline.run(clean, seed=7, store=store)
    print(f"with cleaner rows the gate opens: {run.finding('gate').verdict}")
