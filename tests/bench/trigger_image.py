# SPDX-License-Identifier: Apache-2.0
"""The search for triggers in images, against a small network and ART (`make peers`).

`growth` is the search on ten times the images against the search on them; `memory` holds the peak
of the search, with the data that it was handed and less what the process had once all was imported
and pages of program files, against the data alone, as 32-bit floats; `memory_many` the same with
ten times the images. Both sides have one thread for matrix products: idle ones spin, and their CPU
would be counted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

SUBJECT = "poisoning.trigger_image"
PEER = "five epochs of a small network, then ART's ActivationDefence; growth, memory: see the case"
CASES = ("", "growth", "memory", "memory_many")
TELLS_ITS_COST = CASES
ROWS = 10_000
REPEATS = 5
SIDE, SCALE = 28, 3
PEERS = Path(__file__).parent / "peers"
THEIRS = Path(__file__).resolve().parents[2] / ".venv-peers" / "art" / "bin" / "python"


def prepare(folder: Path, rows: int) -> None:
    """Real digits, enlarged, moved and dimmed; one in a hundred with a square and a label of it."""
    if not THEIRS.exists():
        raise SystemExit("ART is not installed: make peers")
    for name, n in (("one", rows), ("ten", 10 * rows)):
        images, labels = digits(n)
        (folder / name).mkdir(parents=True)
        np.save(folder / name / "images.npy", images)
        np.save(folder / name / "labels.npy", labels)


def command(role: str, case: str, folder: Path) -> list[str]:
    """One side in a fresh process."""
    alone = ["env", "OMP_NUM_THREADS=1"]
    ours = [*alone, sys.executable, str(PEERS / "image_scan.py")]
    ten = case == "memory_many" or (case == "growth" and role == "subject")
    images = str(folder / ("ten" if ten else "one"))
    if case.startswith("memory"):
        return [*ours, "scan" if role == "subject" else "size", images]
    if case != "growth" and role == "peer":
        return [*alone, str(THEIRS), str(PEERS / "image_triggers.py"), images]
    return [*ours, "scan", images]


def digits(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of shape (rows, 784) and labels."""
    rng = np.random.default_rng(0)
    small, labels = load_digits(return_X_y=True)
    large = np.kron(small.reshape(-1, 8, 8), np.ones((SCALE, SCALE)))
    large = (large + np.roll(large, 1, 1) + np.roll(large, 1, 2)) / 3  # no stairs
    which = rng.integers(0, len(large), rows)
    images = np.zeros((rows, SIDE, SIDE), np.uint8)
    room = SIDE - SCALE * 8 + 1
    place = rng.integers(0, room, (rows, 2))
    light = rng.uniform(10, 15, rows)
    for top in range(room):
        for left in range(room):
            mine = np.flatnonzero((place == (top, left)).all(1))
            made = np.minimum(large[which[mine]] * light[mine, None, None], 255)
            images[mine, top : top + SCALE * 8, left : left + SCALE * 8] = made
    images += rng.integers(0, 8, images.shape, dtype=np.uint8) * (images < 240)
    own = labels[which].astype(np.int64)
    poisoned = rng.permutation(np.flatnonzero(own != 3))[: rows // 100]
    images[poisoned, 20:24, 6:10] = 255
    own[poisoned] = 3
    return images.reshape(rows, -1), own
