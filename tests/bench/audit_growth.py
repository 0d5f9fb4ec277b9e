# SPDX-License-Identifier: Apache-2.0
"""CPU and peak memory of every detector that an audit of a table takes, on four times the rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

from datapipe.cli.audit_plan import Beside, audit_pipeline
from datapipe.core.roles import Roles

SUBJECT = "an audit of a table of numbers, categories and a label"
PEER = "the same of a quarter of the rows"
CASES = ("",)
ROWS = 40_000
REPEATS = 3


def prepare(folder: Path, rows: int) -> None:
    """Customers by seed, and a quarter as many."""
    for name, n in (("subject", rows), ("peer", rows // 4)):
        (folder / name).mkdir(parents=True)
        rng = np.random.default_rng(n)
        kinds = {f"kind{i}": rng.integers(0, 3 + 5 * i, n).astype(str) for i in range(4)}
        values = {f"value{i}": rng.normal(size=n).round(4) for i in range(7)}
        odds = 2.0 * values["value0"] + values["value1"] + (kinds["kind0"] == "1")
        label = np.where(rng.random(n) < 1 / (1 + np.exp(-2.0 * odds)), "stays", "leaves")
        frame = pl.DataFrame({**kinds, **values, "label": label})
        frame.write_parquet(folder / name / "rows.parquet")


def command(role: str, case: str, folder: Path) -> list[str]:
    """The same script on either file."""
    return [sys.executable, str(Path(__file__).resolve()), str(folder / role)]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    rows = audit_pipeline(str(place / "rows.parquet"), Roles.of(label="label"), beside=Beside())
    print(len(rows.run(seed=0, store=place / "store").findings), "findings")
