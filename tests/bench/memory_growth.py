# SPDX-License-Identifier: Apache-2.0
"""Peak memory of the same pipeline on ten times the rows, and with rows in one oversized group."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from lineage_overhead import CASES as INPUTS
from lineage_overhead import prepare as prepared
from lineage_overhead import subject

SUBJECT = "datapipe on all rows"
PEER = "datapipe on a tenth of the rows"
CASES = ("rows", "one_group")
"""Files of a million rows; the same rows as one file with a single row group."""
ROWS = 10_000_000
REPEATS = 3


def prepare(folder: Path, rows: int) -> None:
    """The narrow input of `lineage_overhead`, whole and a tenth of it, in two forms."""
    import polars as pl

    for name, n in (("subject", rows), ("peer", rows // 10)):
        prepared(folder / name, n)
        for other in set(INPUTS) - {"narrow"}:
            shutil.rmtree(folder / name / other, ignore_errors=True)
        (folder / name / "one_group" / "in").mkdir(parents=True)
        pl.scan_parquet(folder / name / "narrow" / "in" / "*.parquet").sink_parquet(
            folder / name / "one_group" / "in" / "0.parquet", row_group_size=n
        )


def command(role: str, case: str, folder: Path) -> list[str]:
    """The same script on either input."""
    place = folder / role / ("narrow" if case == "rows" else case)
    return [sys.executable, str(Path(__file__).resolve()), str(place)]


if __name__ == "__main__":
    subject(Path(sys.argv[1]))
    print("done")
