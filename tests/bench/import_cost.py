# SPDX-License-Identifier: Apache-2.0
"""`import datapipe` and `datapipe --help` against a bare interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

SUBJECT = "import datapipe, or datapipe --help"
PEER = "a bare interpreter"
CASES = ("import", "help")
ROWS = 0
REPEATS = 15

HELP = """
import os, sys
sys.argv = ["datapipe", "--help"]
sys.stdout = open(os.devnull, "w")
from datapipe.cli.app import main
main()
"""


def prepare(folder: Path, rows: int) -> None:
    """Nothing is needed."""


def command(role: str, case: str, folder: Path) -> list[str]:
    """A fresh interpreter, with or without the import."""
    code = {"import": "import datapipe", "help": HELP}[case] if role == "subject" else "pass"
    return [sys.executable, "-c", code]
