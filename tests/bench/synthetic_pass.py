# SPDX-License-Identifier: Apache-2.0
"""Coding texts for scores and measuring their diversity in one pass, against reading them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

SUBJECT = "coding for synthetic.score and figures of synthetic.diversity, batch by batch"
PEER = "lower case and a count of white space, batch by batch"
CASES = ("",)
ROWS = 20_000
REPEATS = 5
BATCH = 2_048

READ = f"""
import sys
import polars as pl
from pathlib import Path
path = Path("texts.parquet")
n = pl.scan_parquet(path).select(pl.len()).collect().item()
size = 0
for start in range(0, n, {BATCH}):
    texts = pl.scan_parquet(path).slice(start, {BATCH}).collect()["t"]
"""
OURS = """
    if not start:
        from datapipe.stages.synthetic._ngrams import coded
        from datapipe.stages.synthetic._style import style, window
        from datapipe.stages.synthetic.diversity import _Pass
        seen = _Pass(None)
    seen.add(pl.DataFrame({"_row_id": range(len(texts)), "t": texts}), "t")
    part = window(texts)
    style(part)
    coded(part)
"""
THEIRS = """
    texts.str.to_lowercase().str.count_matches(r"\\s+").sum()
"""
SIZE = """
    size += texts.str.len_bytes().sum()
print(size)
"""


def prepare(folder: Path, rows: int) -> None:
    """Zipf words in sentences, about a kilobyte a text."""
    rng = np.random.default_rng(0)
    words = np.array(
        ["".join(rng.choice(list("abcdefghiklmnoprstuvw"), n)) for n in rng.integers(2, 11, 30_000)]
    )
    use = np.arange(1, words.size + 1) ** -1.0
    use /= use.sum()
    texts = [" ".join(rng.choice(words, 170, p=use)) + "." for _ in range(rows)]
    pl.DataFrame({"t": texts}).write_parquet(folder / "texts.parquet")


def command(role: str, case: str, folder: Path) -> list[str]:
    """A fresh process that prints how many bytes it saw."""
    return [sys.executable, "-c", READ + (OURS if role == "subject" else THEIRS) + SIZE]
