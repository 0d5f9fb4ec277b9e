# SPDX-License-Identifier: Apache-2.0
"""Sign again after one changed file, with remembered digests, against hashing all again."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import material

SUBJECT = "datapipe sign_path, memory"
PEER = "full: our full re-hash of 50 files of 1 GB; api, many: model_signing API"
CASES = ("full", "api", "many")
ROWS = 1_000
REPEATS = 5
TELLS_ITS_COST = CASES
HERE = Path(__file__).resolve().parent


def prepare(folder: Path, rows: int) -> None:
    """Fifty files of `rows` megabytes in all, and a hundred times as many small ones."""
    material.files(folder, 50, rows * 1_000_000 // 50)
    material.files(folder, rows * 5, 20_000, name="many")


def command(role: str, case: str, folder: Path) -> list[str]:
    """A fresh process; what it loads is not measured."""
    return [sys.executable, str(HERE / "peers" / "signing.py"), "resign", role, case]
