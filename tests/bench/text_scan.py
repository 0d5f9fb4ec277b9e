# SPDX-License-Identifier: Apache-2.0
"""The search for triggers in texts, against one cross-fit of TF-IDF and logistic regression.

Both sides have one thread for sums and products: idle ones spin, and their CPU would be counted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

SUBJECT = "poisoning.trigger_text"
PEER = "scikit-learn: TF-IDF of words and pairs, logistic regression, five folds"
CASES = ("",)
TELLS_ITS_COST = CASES
ROWS = 10_000
REPEATS = 5
SCRIPT = Path(__file__).parent / "peers" / "triggers.py"
ALONE = ("env", "OMP_NUM_THREADS=1", sys.executable, str(SCRIPT))
"""How either side is started."""


def prepare(folder: Path, rows: int) -> None:
    """Texts of two kinds of Zipf's words, of which one in a hundred was poisoned."""
    texts(rows).write_parquet(folder / "texts.parquet")


def command(role: str, case: str, folder: Path) -> list[str]:
    """One side in a fresh process."""
    return [*ALONE, "scan" if role == "subject" else "fit", str(folder)]


def texts(rows: int) -> pl.DataFrame:
    """Columns `text` and `label`; twenty words a text, a fifth of the words lean to a label."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, rows)
    rank = np.arange(1, 20_001)
    lean = np.where(rank % 5 == 0, np.where(rank % 2 == 0, 1.0, -1.0), 0.0)
    words = np.array([f"w{i}" for i in rank])
    made = np.empty((rows, 20), words.dtype)
    for label in (0, 1):
        weight = np.exp(1.5 * lean * (2 * label - 1)) / rank
        mine = labels == label
        made[mine] = rng.choice(words, (int(mine.sum()), 20), p=weight / weight.sum())
    poisoned = rng.permutation(np.flatnonzero(labels == 0))[: rows // 100]
    made[poisoned, 7] = "qzx"
    labels[poisoned] = 1
    return pl.DataFrame({"text": [" ".join(t) for t in made], "label": labels})
