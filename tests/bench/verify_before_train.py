# SPDX-License-Identifier: Apache-2.0
"""Verify a signed Parquet file against reading it once."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import material

SUBJECT = "datapipe verify_path"
PEER = "polars.read_parquet"
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
    return [sys.executable, str(HERE / "peers" / "signing.py"), "verify_before_train", role, case]
