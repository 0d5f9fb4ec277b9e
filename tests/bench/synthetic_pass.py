# SPDX-License-Identifier: Apache-2.0
"""Scores and diversity of texts in a file, against reading them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

SUBJECT = "synthetic.score and synthetic.diversity against 200 texts of people, from the file"
PEER = "lower case and a count of white space, batch by batch"
CASES = ("",)
ROWS = 20_000
REPEATS = 5
BATCH = 2_048
PEOPLE = 200

THEIRS = f"""
import polars as pl
plan = pl.scan_parquet("texts.parquet")
n = plan.select(pl.len()).collect().item()
size = 0
for start in range(0, n, {BATCH}):
    texts = plan.slice(start, {BATCH}).collect()["t"]
    texts.str.to_lowercase().str.count_matches(r"\\s+").sum()
    size += texts.str.len_bytes().sum()
print(size)
"""


def prepare(folder: Path, rows: int) -> None:
    """Zipf words in sentences, about a kilobyte a text; rows of people beside them."""
    rng = np.random.default_rng(0)
    words = np.array(
        ["".join(rng.choice(list("abcdefghiklmnoprstuvw"), n)) for n in rng.integers(2, 11, 30_000)]
    )
    use = np.arange(1, words.size + 1) ** -1.0
    use /= use.sum()
    texts = [" ".join(rng.choice(words, 170, p=use)) + "." for _ in range(rows + PEOPLE)]
    frame = pl.DataFrame({"_row_id": np.arange(rows + PEOPLE, dtype=np.uint64), "t": texts})
    frame.head(rows).write_parquet(folder / "texts.parquet", row_group_size=BATCH)
    frame.tail(PEOPLE).select("t").write_parquet(folder / "people.parquet")


def command(role: str, case: str, folder: Path) -> list[str]:
    """A fresh process that prints how many bytes it saw."""
    if role == "subject":
        return [sys.executable, str(Path(__file__).resolve()), str(folder)]
    return [sys.executable, "-c", THEIRS]


def subject(folder: Path) -> None:
    """Both stages on the file, which is never read whole."""
    from datapipe.core.context import Context
    from datapipe.core.dataset import Dataset
    from datapipe.core.roles import Roles
    from datapipe.stages import CorpusDiversity, SyntheticScore

    plan = pl.scan_parquet(folder / "texts.parquet")
    people = Dataset.of(pl.read_parquet(folder / "people.parquet"))
    context = Context(1, folder, reference=people)
    for stage in (SyntheticScore(), CorpusDiversity()):
        found = stage.run(Dataset(plan, Roles.of(text="t")), context).findings
        assert found[0].verdict != "not_evaluated", found[0].says
    size = pl.col("t").str.len_bytes().sum()
    print(plan.select(size).collect(engine="streaming").item())


if __name__ == "__main__":
    subject(Path(sys.argv[1]))
