# SPDX-License-Identifier: Apache-2.0
"""Manifests signed with P-256, Ed25519 and ML-DSA-65 against Ed25519 alone."""

from __future__ import annotations

import sys
from pathlib import Path

SUBJECT = "hybrid envelope of 4 kB"
PEER = "Ed25519 envelope of 4 kB"
CASES = ("",)
ROWS = 500
REPEATS = 5
TELLS_ITS_COST = CASES
HERE = Path(__file__).resolve().parent


def prepare(folder: Path, rows: int) -> None:
    """How many manifests."""
    (folder / "count").write_text(str(rows))


def command(role: str, case: str, folder: Path) -> list[str]:
    """A fresh process; what it loads is not measured."""
    return [sys.executable, str(HERE / "peers" / "signing.py"), "hybrid_signature", role, case]
