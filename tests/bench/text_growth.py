# SPDX-License-Identifier: Apache-2.0
"""CPU time and peak memory of the search for triggers on ten times the texts."""

from __future__ import annotations

import sys
from pathlib import Path

from text_scan import SCRIPT, texts

SUBJECT = "poisoning.trigger_text on all texts"
PEER = "the same on a tenth of the texts"
CASES = ("",)
TELLS_ITS_COST = CASES
ROWS = 100_000
REPEATS = 3


def prepare(folder: Path, rows: int) -> None:
    """The texts of `text_scan`, and a tenth as many."""
    for name, n in (("subject", rows), ("peer", rows // 10)):
        (folder / name).mkdir(parents=True)
        texts(n).write_parquet(folder / name / "texts.parquet")


def command(role: str, case: str, folder: Path) -> list[str]:
    """The same script on either file."""
    return [sys.executable, str(SCRIPT), "scan", str(folder / role)]
