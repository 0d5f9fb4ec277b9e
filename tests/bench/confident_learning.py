# SPDX-License-Identifier: Apache-2.0
"""The rows that confident learning prunes, against cleanlab with one job; equal row by row."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

SUBJECT = "datapipe.measure.label_noise.prune_by_noise_rate"
PEER = "cleanlab.filter.find_label_issues(n_jobs=1)"
CASES = ("100 classes", "1000 classes", "demo digits")
TELLS_ITS_COST = CASES
ROWS = 1_000_000
REPEATS = 5
SCRIPT = Path(__file__).parent / "peers" / "labels.py"


def prepare(folder: Path, rows: int) -> None:
    """Nothing yet: the case says how many classes."""
    (folder / "rows").write_text(str(rows))


def command(role: str, case: str, folder: Path) -> list[str]:
    """One side in a fresh process; the first call of a case makes its arrays."""
    if case == "demo digits":  # no rows to choose: whole stages, fits included, on five worlds
        return [sys.executable, str(SCRIPT), "demo", role, str(folder)]
    rows, classes = int((folder / "rows").read_text()), int(case.partition(" ")[0])
    rows = rows if classes == 100 else rows // 5
    if not (folder / "shares.npy").exists():
        labels, shares = made(rows, classes)
        np.save(folder / "labels.npy", labels)
        np.save(folder / "shares.npy", shares)
    return [sys.executable, str(SCRIPT), "confident", role, str(folder)]


def made(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which one in ten was drawn again, and single-precision probabilities."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, classes, rows)
    labels = np.where(rng.random(rows) < 0.1, rng.integers(0, classes, rows), true)
    shares = rng.random((rows, classes), dtype=np.float32)
    np.power(shares, 8, out=shares)
    shares[np.arange(rows), true] += rng.gamma(2, classes / 25, rows).astype(np.float32)
    shares /= shares.sum(1, keepdims=True)
    return labels, shares
