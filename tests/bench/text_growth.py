# SPDX-License-Identifier: Apache-2.0
"""CPU time and peak memory of the search for triggers on ten times the texts.

`memory` holds the peak of the search, with the texts that it was handed and less what the process
had once all was imported and pages of program files, against the texts alone.
"""

from __future__ import annotations

from pathlib import Path

from text_scan import ALONE, texts

SUBJECT = "poisoning.trigger_text on all texts"
PEER = "the same on a tenth of the texts; memory: see the case"
CASES = ("", "memory")
TELLS_ITS_COST = CASES
ROWS = 100_000
REPEATS = 3


def prepare(folder: Path, rows: int) -> None:
    """The texts of `text_scan`, and a tenth as many."""
    for name, n in (("subject", rows), ("peer", rows // 10)):
        (folder / name).mkdir(parents=True)
        texts(n).write_parquet(folder / name / "texts.parquet")


def command(role: str, case: str, folder: Path) -> list[str]:
    """The same script on either file, or what the texts themselves take."""
    if case == "memory":
        return [*ALONE, "search" if role == "subject" else "size", str(folder / "subject")]
    return [*ALONE, "scan", str(folder / role)]
