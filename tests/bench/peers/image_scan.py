# SPDX-License-Identifier: Apache-2.0
"""The search for triggers in prepared images; prints what it cost once all was loaded.

Its memory is the peak during the search, the data that it was handed among it, less what the
process had when all was imported and nothing read. Pages of program files are not counted: a search
among a few rows comes first, so that none is read later. `size` prints the bytes of the data alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning.trigger_image import TriggerImage

TARGET = "3"
FEW = 500


def main() -> None:
    """The whole stage; it must name the class, or its cost means nothing."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    imported = held()
    images = np.load(folder / "images.npy")
    size, labels = 4 * images.size, np.load(folder / "labels.npy")
    if what == "size":
        print(json.dumps({"cpu_seconds": 1.0, "peak_bytes": size, "outcome": "done"}))
        return
    frame = pl.DataFrame({"image": images.astype(np.float32), "label": labels})
    del images
    roles = Roles.of(image="image", label="label")
    TriggerImage().run(Dataset.of(frame.head(FEW), roles), Context(0, Path()))
    data = Dataset.of(frame, roles)
    forget_peak()
    start = time.process_time()
    made = TriggerImage().run(data, Context(0, Path())).findings[0]
    spent = time.process_time() - start
    if made.verdict != "fail" or made.details["class"] != TARGET:
        raise SystemExit(f"the trigger was not named: {made.verdict}, {made.says}")
    peak = peak_held() - imported
    print(json.dumps({"cpu_seconds": spent, "peak_bytes": peak, "outcome": "done"}))


def held() -> int:
    """Bytes of its own that the process holds now."""
    return told("RssAnon")


def forget_peak() -> None:
    """What reading took is not the search's: the peak starts again from what is held."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_held() -> int:
    """The most bytes of its own that the process held at once since then."""
    return told("VmHWM") - told("RssFile")


def told(name: str) -> int:
    """Bytes that the kernel tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
