# SPDX-License-Identifier: Apache-2.0
# Prints:
#     5 rows in, 3 left
#     row 2: dedup.exact: duplicate of 1:0
#     row 4: left out by text.long_enough
"""A pipeline over a frame: one stage of the catalogue, one plain function, and why rows left."""

from __future__ import annotations

import tempfile

import polars as pl

from datapipe import Pipeline, stage
from datapipe.stages import ExactDuplicates

reviews = pl.DataFrame({"text": ["good", "bad", "good", "fine", "?"], "stars": [5, 1, 5, 4, 3]})


@stage("text.long_enough", version="1")
def long_enough(rows: pl.LazyFrame, *, characters: int = 2) -> pl.LazyFrame:
    """Keep the rows whose text says something."""
    return rows.filter(pl.col("text").str.len_chars() >= characters)


with tempfile.TemporaryDirectory() as store:
    run = Pipeline("hello", [ExactDuplicates(), long_enough(characters=2)]).run(
        reviews, seed=7, store=store
    )
    print(f"{len(reviews)} rows in, {len(run.data)} left")
    for ordinal, reason in run.sql("select ordinal, reason from dropped_rows order by 1").rows():
        print(f"row {ordinal}: {reason}")
