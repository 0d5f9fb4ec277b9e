# SPDX-License-Identifier: Apache-2.0
"""A Merkle root over rows against a signature for each row."""

from __future__ import annotations

import sys
from pathlib import Path

SUBJECT = "leaves and RFC 6962 root"
PEER = "one Ed25519 signature a row"
CASES = ("",)
ROWS = 50_000
REPEATS = 5
TELLS_ITS_COST = CASES
HERE = Path(__file__).resolve().parent


def prepare(folder: Path, rows: int) -> None:
    """How many rows."""
    (folder / "count").write_text(str(rows))


def command(role: str, case: str, folder: Path) -> list[str]:
    """A fresh process; what it loads is not measured."""
    return [sys.executable, str(HERE / "peers" / "signing.py"), "merkle_root", role, case]
