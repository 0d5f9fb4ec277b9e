# SPDX-License-Identifier: Apache-2.0
"""The plan of `lineage_overhead` in polars alone."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

FILTERS = {"negative": pl.col("amount") < 0, "no shop": pl.col("shop").is_null()}
MAPS = {
    "gross": pl.col("amount") * 1.19,
    "day": pl.col("second") // 86_400,
    "loud": pl.col("shop").str.to_uppercase(),
    "large": pl.col("amount") > 90,
}


def main(folder: Path, level: int | None = None) -> int:
    """Sink the bare plan and count the rows that are left; without a level, polars chooses it."""
    plan = pl.scan_parquet(folder / "in" / "*.parquet")
    for condition in FILTERS.values():
        plan = plan.filter(~condition.fill_null(value=False))
    for name, expression in MAPS.items():
        plan = plan.with_columns(expression.alias(name))
    plan.sink_parquet(folder / "out.parquet", compression="zstd", compression_level=level)
    return pl.scan_parquet(folder / "out.parquet").select(pl.len()).collect().item()


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
