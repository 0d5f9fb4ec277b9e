# SPDX-License-Identifier: Apache-2.0
"""Five rounds of Dawid-Skene on answers in random order, against crowd-kit (`make peers`)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

SUBJECT = "datapipe.measure.crowd_models.dawid_skene"
PEER = "crowdkit.aggregation.DawidSkene"
CASES = ("",)
TELLS_ITS_COST = CASES
ROWS = 1_000_000
REPEATS = 5
SCRIPT = Path(__file__).parent / "peers" / "labels.py"
THEIRS = Path(__file__).resolve().parents[2] / ".venv-peers" / "crowd" / "bin" / "python"


def prepare(folder: Path, rows: int) -> None:
    """Ten answers an item by a thousand annotators, five classes."""
    if not THEIRS.exists():
        raise SystemExit("crowd-kit is not installed: make peers")
    rng = np.random.default_rng(0)
    true = rng.integers(0, 5, rows // 10)
    item = np.repeat(np.arange(true.size), 10)
    who = rng.integers(0, 1000, item.size)
    said = np.where(rng.random(item.size) < 0.7, true[item], rng.integers(0, 5, item.size))
    order = rng.permutation(item.size)
    np.save(folder / "answers.npy", np.stack([item, who, said])[:, order])


def command(role: str, case: str, folder: Path) -> list[str]:
    """One side in a fresh process."""
    python = sys.executable if role == "subject" else str(THEIRS)
    return [python, str(SCRIPT), "crowd", role, str(folder)]
