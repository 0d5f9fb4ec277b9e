# SPDX-License-Identifier: Apache-2.0
"""Reading with every checksum held against its bytes, against a plain read of the same file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

SUBJECT = "ReadParquet or ReadArrow: damage is refused, then the rows are collected"
PEER = "pyarrow reads the same file, nothing is checked"
CASES = ("sealed", "checksums", "bare", "arrow")
"""Parquet of ours, of pyarrow with page checksums, of pyarrow without; Arrow IPC of ours."""
ROWS = 2_000_000
REPEATS = 7
TELLS_ITS_COST = CASES
"""A read is compared with a read; what it costs to start is `import_cost`."""
SUFFIX = {"arrow": ".arrow"}


def prepare(folder: Path, rows: int) -> None:
    """Two million rows of text and numbers, about 34 MB compressed."""
    import numpy as np
    import pyarrow.parquet as pq

    from datapipe.core.dataset import Dataset

    rng = np.random.default_rng(0)
    words = pl.Series([f"word{i}" for i in range(5000)])
    drawn = [words[np.minimum(rng.zipf(1.3, rows) - 1, 4999)] for _ in range(3)]
    frame = pl.DataFrame(
        {
            "text": pl.select(pl.concat_str(drawn, separator=" ")).to_series(),
            "label": rng.integers(0, 5, rows),
            "amount": rng.normal(60, 30, rows).round(2),
            "second": np.arange(rows),
        }
    )
    data = Dataset.of(frame)
    data.save(folder / "sealed.parquet")
    data.save(folder / "arrow.arrow")
    for case in ("checksums", "bare"):
        pq.write_table(
            frame.to_arrow(),
            folder / f"{case}.parquet",
            compression="zstd",
            write_page_checksum=case == "checksums",
        )


def command(role: str, case: str, folder: Path) -> list[str]:
    """A script each."""
    path = folder / f"{case}{SUFFIX.get(case, '.parquet')}"
    return [sys.executable, str(Path(__file__).resolve()), role, str(path)]


def subject(path: Path) -> Callable[[], int]:
    """Read as a pipeline does, and collect."""
    from datapipe.core.context import Context
    from datapipe.stages import ReadArrow, ReadParquet

    reader = ReadArrow(path) if path.suffix == ".arrow" else ReadParquet(path)
    return lambda: len(reader.run(None, Context(0, Path())).data.frame()["second"])


def peer(path: Path) -> Callable[[], int]:
    """Read as anybody does."""
    import pyarrow.ipc
    import pyarrow.parquet as pq

    def arrow() -> int:
        with pyarrow.ipc.open_file(str(path)) as reader:
            return reader.read_all().num_rows

    return arrow if path.suffix == ".arrow" else lambda: pq.read_table(path).num_rows


def main(role: str, path: Path) -> None:
    """Read three times, and print what that alone has cost."""
    read = {"subject": subject, "peer": peer}[role](path)
    before = time.process_time()
    rows = sum(read() for _ in "abc")
    print(json.dumps({"cpu_seconds": time.process_time() - before, "outcome": rows}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
