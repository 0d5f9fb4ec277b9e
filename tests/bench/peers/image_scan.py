# SPDX-License-Identifier: Apache-2.0
"""The search for triggers in prepared images; prints what it cost once all was loaded.

Its memory is that of the pixels as 32-bit floats, and what the search takes beside them.
"""

from __future__ import annotations

import json
import resource
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


def main() -> None:
    """The whole stage; it must name the class, or its cost means nothing."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    pixels = np.load(folder / "images.npy").astype(np.float32)
    frame = pl.DataFrame({"image": pixels, "label": np.load(folder / "labels.npy")})
    size = pixels.nbytes
    del pixels
    data = Dataset.of(frame, Roles.of(image="image", label="label"))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    if what == "scan":
        made = TriggerImage().run(data, Context(0, Path())).findings[0]
        if made.verdict != "fail" or made.details["class"] != TARGET:
            raise SystemExit(f"the trigger was not named: {made.verdict}, {made.says}")
    spent = max(time.process_time() - start, 1e-6)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) * 1024
    print(json.dumps({"cpu_seconds": spent, "peak_bytes": size + more, "outcome": "done"}))


if __name__ == "__main__":
    main()
