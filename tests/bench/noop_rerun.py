# SPDX-License-Identifier: Apache-2.0
"""A run whose every result is in the store, against the start of the program alone."""

from __future__ import annotations

import sys
from pathlib import Path

from lineage_overhead import prepare as prepared
from lineage_overhead import stages

SUBJECT = "datapipe runs a pipeline again of which nothing has changed; it reads no data"
PEER = "the same program up to the point where the pipeline would run"
CASES = ("",)
ROWS = 10_000_000
REPEATS = 7


def prepare(folder: Path, rows: int) -> None:
    """Run the pipeline once, so that everything is in the store."""
    prepared(folder, rows)
    print(run(folder), file=sys.stderr)


def run(folder: Path) -> int:
    """Run it; the data of a run whose results were reused is never opened."""
    from datapipe.core.pipeline import Pipeline

    place = folder / "corpus"
    return len(Pipeline("sales", stages(place)).run(seed=7, store=place / "store").data)


def command(role: str, case: str, folder: Path) -> list[str]:
    """The same script, with and without the run."""
    return [sys.executable, str(Path(__file__).resolve()), role, str(folder)]


if __name__ == "__main__":
    import polars as pl  # noqa: F401 - part of the start

    import datapipe.execute.local  # noqa: F401 - part of the start
    from datapipe.core.pipeline import Pipeline

    where = Path(sys.argv[2])
    plan = Pipeline("sales", stages(where / "corpus")).plan()
    if sys.argv[1] == "subject":
        assert run(where)
    print(len(plan.steps))
