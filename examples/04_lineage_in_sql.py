# SPDX-License-Identifier: Apache-2.0
# Prints:
#     run 1: 3 steps, 0 reused
#     run 2: 3 steps, 3 reused
#     dedup.exact set 2 rows aside
#     row 1:3 came from letters and was dropped: dedup.exact: duplicate of 1:0
#     the store holds: 0 problems
"""Every question about a row or a run is a query; an unchanged run is not run again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl

from datapipe import Lineage, Pipeline
from datapipe.core.function import stage
from datapipe.stages import ExactDuplicates, ReadCSV


@stage("letters.lower", version="1")
def lower(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Write every letter small."""
    return rows.with_columns(pl.col("letter").str.to_lowercase())


with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "letters.csv"
    file.write_text("letter\na\nb\nc\nA\nB\nd\n")
    store = Path(folder) / "store"

    pipeline = Pipeline("letters", [ReadCSV(file), lower(), ExactDuplicates()])
    for number in (1, 2):
        run = pipeline.run(seed=7, store=store)
        reused = sum(step.reused for step in run.steps)
        print(f"run {number}: {len(run.steps)} steps, {reused} reused")

    query = """
        select stage, count(*) as rows from dropped_rows where run_id = $run group by stage
    """
    for name, rows in run.sql(query, run=run.run_id).rows():
        print(f"{name} set {rows} rows aside")

    row = run.why("1:3")
    print(
        f"row 1:3 came from {row['source']['name']} and was dropped: {row['dropped'][0]['reason']}"
    )
    print(f"the store holds: {len(Lineage(store).verify())} problems")
