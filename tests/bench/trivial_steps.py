# SPDX-License-Identifier: Apache-2.0
"""Twenty trivial steps on a frame in memory: what orchestration itself costs, beside three peers.

Each runs in a process of its own. The peers record nothing, or what they record by default; where a
case says `kept`, the rows of each step too. Ours makes its SQL index when the program ends: the
whole program has it, the steps alone have not.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

SUBJECT = "datapipe: twenty row stages, every row named, every step signed, the result stored"
PEER = "the same twenty steps in a peer, the result in memory"
PEERS = ("hamilton", "kedro", "dagster")
"""Hamilton without its cache; Kedro's sequential runner on memory; Dagster with in-memory io."""
KEPT = ("kedro_kept", "dagster_kept")
"""The same with the rows of every step stored, so that a run can be looked into or gone on with:
Kedro with a Parquet data set a step in its catalog, Dagster with the io manager it has by itself.
Ours stores the result once and names every row and step; it does so in all cases."""
WHOLE = (*PEERS, *KEPT)
CASES = (*WHOLE, *(f"{case}_steps" for case in WHOLE))
"""The whole program, and from the frame in hand to the result in hand, imports left out."""
ROWS = 1_000_000
REPEATS = 7
TELLS_ITS_COST = CASES[len(WHOLE) :]
ENGINES = Path(__file__).resolve().parents[2] / ".venv-peers" / "engines" / "bin" / "python"


def prepare(folder: Path, rows: int) -> None:
    """A frame of two columns; the peers live in an environment of their own (`make peers`)."""
    import polars as pl

    if not ENGINES.exists():
        raise SystemExit("the peers are not installed: run `make peers`")
    pl.DataFrame({"a": range(rows), "b": [i % 7 for i in range(rows)]}).write_ipc(folder / "in")


def command(role: str, case: str, folder: Path) -> list[str]:
    """Subject and peer, each in its own environment."""
    here = Path(__file__).resolve()
    peer, *how = case.split("_")
    told = "told" if "steps" in how else ""
    if role == "subject":
        return [sys.executable, str(here), str(folder), told]
    script = here.parent / "peers" / f"steps_{peer}.py"
    return [str(ENGINES), str(script), str(folder), told, "kept" if "kept" in how else ""]


def subject(folder: Path) -> None:
    """Twenty stages, each of which adds one to a column."""
    import resource
    import time

    import polars as pl

    from datapipe.core.dataset import Dataset
    from datapipe.core.pipeline import Pipeline
    from datapipe.core.stage import RowStage
    from datapipe.execute.local import LocalExecutor

    @dataclass(frozen=True)
    class Add(RowStage):
        which: int = 0
        name: ClassVar[str] = "bench.add"

        def columns(self, roles, types):
            return {"a": pl.col("a") + 1}

    frame = pl.read_ipc(folder / "in")
    executor = LocalExecutor()
    shutil.rmtree(folder / "store", ignore_errors=True)
    before = time.process_time()
    run = Pipeline("steps", [Add(i) for i in range(20)]).run(
        Dataset.of(frame), seed=7, store=folder / "store", executor=executor
    )
    total = int(run.data.frame(["a"])["a"].sum())
    spent = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told = {"cpu_seconds": spent, "peak_bytes": peak, "outcome": total}
    print(json.dumps(told) if sys.argv[2] else total)


if __name__ == "__main__":
    subject(Path(sys.argv[1]))
