# SPDX-License-Identifier: Apache-2.0
"""Peak memory of scores and diversity on ten times the texts."""

from __future__ import annotations

import sys
from pathlib import Path

from synthetic_pass import prepare as prepared
from synthetic_pass import subject

SUBJECT = "synthetic.score and synthetic.diversity on all texts"
PEER = "the same on a tenth of the texts"
CASES = ("",)
ROWS = 40_000
REPEATS = 3


def prepare(folder: Path, rows: int) -> None:
    """The texts of `synthetic_pass`, and a tenth as many."""
    for name, n in (("subject", rows), ("peer", rows // 10)):
        (folder / name).mkdir(parents=True)
        prepared(folder / name, n)


def command(role: str, case: str, folder: Path) -> list[str]:
    """The same script on either file."""
    return [sys.executable, str(Path(__file__).resolve()), str(folder / role)]


if __name__ == "__main__":
    subject(Path(sys.argv[1]))
    print("done")
