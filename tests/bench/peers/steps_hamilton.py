# SPDX-License-Identifier: Apache-2.0
"""The twenty steps of `trivial_steps` in Hamilton."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import polars as pl
from hamilton import ad_hoc_utils, driver

frame = pl.read_ipc(Path(sys.argv[1]) / "in")
SOURCE = """
def f{n}(f{m}: pl.DataFrame) -> pl.DataFrame:
    return f{m}.with_columns(a=pl.col("a") + 1)
"""
before = time.process_time()
functions = []
for number in range(1, 21):
    space = {"pl": pl}
    exec(SOURCE.format(n=number, m=number - 1), space)
    functions.append(space[f"f{number}"])
module = ad_hoc_utils.create_temporary_module(*functions, module_name="steps")
made = driver.Builder().with_modules(module).build().execute(["f20"], inputs={"f0": frame})
total = int(made["f20"]["a"].sum())
spent = time.process_time() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
told = {"cpu_seconds": spent, "peak_bytes": peak, "outcome": total}
print(json.dumps(told) if sys.argv[2] else total)
