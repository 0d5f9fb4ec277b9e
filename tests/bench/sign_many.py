# SPDX-License-Identifier: Apache-2.0
"""Sign many small files of 20 kB: our two artefacts against the reference library."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import material

SUBJECT = "datapipe sign_path"
PEER = "model_signing API, sha256"
CASES = ("api",)
ROWS = 5_000
REPEATS = 5
TELLS_ITS_COST = CASES
HERE = Path(__file__).resolve().parent


def prepare(folder: Path, rows: int) -> None:
    """Files of 20 kB."""
    material.files(folder, rows, 20_000)


def command(role: str, case: str, folder: Path) -> list[str]:
    """A fresh process; what it loads is not measured."""
    return [sys.executable, str(HERE / "peers" / "signing.py"), "sign_many", role, case]
