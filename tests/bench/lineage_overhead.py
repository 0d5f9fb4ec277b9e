# SPDX-License-Identifier: Apache-2.0
"""Full lineage against the bare polars plan: scan, two filters, four maps, zstd Parquet."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
from peers.sales import FILTERS, MAPS

from datapipe.core.parquet import COMPRESSION_LEVEL
from datapipe.core.pipeline import Pipeline
from datapipe.core.stage import RowStage, Stage
from datapipe.stages import ReadParquet

SUBJECT = "datapipe: every row traceable, every step recorded and digested"
PEER = "the same plan in polars, nothing recorded"
DATA = ("corpus", "narrow")
"""Eight columns with a text of eight Zipf words; four columns of numbers and a short name."""
SAME = " at our level"
"""The peer's zstd is polars' own, level 3; at our level, what is compared is lineage alone."""
CASES = (*DATA, *(f"{case}{SAME}" for case in DATA))
ROWS = 10_000_000
REPEATS = 5
CHUNK = 1_000_000


@dataclass(frozen=True)
class Drop(RowStage):
    """Sets rows aside by one named condition."""

    which: str = ""
    name: ClassVar[str] = "bench.drop"

    def set_aside(self, roles, types):
        """The condition."""
        return {self.which: FILTERS[self.which]}


@dataclass(frozen=True)
class Make(RowStage):
    """Adds one named column."""

    which: str = ""
    name: ClassVar[str] = "bench.make"

    def columns(self, roles, types):
        """The column."""
        return {self.which: MAPS[self.which]}


def prepare(folder: Path, rows: int) -> None:
    """Sales of a thousand shops in files of a million rows, with a text and without."""
    rng = np.random.default_rng(0)
    shops = pl.Series([f"shop {i:04d}" for i in range(1000)] + [None] * 10)
    words = pl.Series([f"{chr(97 + i % 26)}word{i}" for i in range(20_000)])
    for case in DATA:
        (folder / case / "in").mkdir(parents=True)
    for number, start in enumerate(range(0, rows, CHUNK)):
        n = min(CHUNK, rows - start)
        narrow = pl.DataFrame(
            {
                "second": np.arange(start, start + n) + 1_700_000_000,
                "amount": rng.normal(60, 30, n).round(2),
                "shop": shops[rng.integers(0, len(shops), n)],
                "item": rng.integers(0, 50_000, n),
            }
        )
        drawn = [words[np.minimum(rng.zipf(1.2, n) - 1, len(words) - 1)] for _ in range(8)]
        note = pl.select(pl.concat_str(drawn, separator=" ")).to_series()
        corpus = narrow.with_columns(
            note=note,
            source=pl.Series(rng.integers(0, 8, n), dtype=pl.Int8),
            score=pl.Series(rng.random(n), dtype=pl.Float32),
            flag=pl.Series(rng.integers(0, 2, n), dtype=pl.Int8),
        )
        for case, frame in zip(DATA, (corpus, narrow), strict=True):
            target = folder / case / "in" / f"{number:03d}.parquet"
            frame.write_parquet(target, compression="zstd")


def command(role: str, case: str, folder: Path) -> list[str]:
    """A script each, so that the peer loads polars and nothing of datapipe."""
    here = Path(__file__).resolve()
    script = here if role == "subject" else here.parent / "peers" / "sales.py"
    level = [str(COMPRESSION_LEVEL)] if role == "peer" and case.endswith(SAME) else []
    return [sys.executable, str(script), str(folder / case.removesuffix(SAME)), *level]


def stages(folder: Path) -> list[Stage]:
    """The reader, two filters and four maps."""
    reader = ReadParquet(str(folder / "in" / "*.parquet"))
    return [reader, *(Drop(which) for which in FILTERS), *(Make(which) for which in MAPS)]


def subject(folder: Path) -> int:
    """Run the pipeline in a fresh store."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    run = Pipeline("sales", stages(folder)).run(seed=7, store=folder / "store")
    assert run.lineage.index()
    return len(run.data)


if __name__ == "__main__":
    print(subject(Path(sys.argv[1])))
