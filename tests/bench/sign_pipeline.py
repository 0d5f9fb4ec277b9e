# SPDX-License-Identifier: Apache-2.0
"""A pipeline that signs its run and log against the same without signatures."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import material

SUBJECT = "datapipe run"
PEER = "datapipe run without signing"
CASES = ("",)
ROWS = 1_000_000
REPEATS = 5
TELLS_ITS_COST = CASES
HERE = Path(__file__).resolve().parent


def prepare(folder: Path, rows: int) -> None:
    """A signed table."""
    material.table(folder, rows)


def command(role: str, case: str, folder: Path) -> list[str]:
    """A fresh process; what it loads is not measured."""
    return [sys.executable, str(HERE / "peers" / "signing.py"), "sign_pipeline", role, case]
