# SPDX-License-Identifier: Apache-2.0
# Prints:
#     train.plain: plain is right on …% of … held-out rows; …
#     export.onnx: plain.int8.onnx has … bytes, 100% of its weights are int8; …
#     plain rests on 7… rows of flowers, licence CC0-1.0
"""Train, quantize, and ask which rows and licences the exported model rests on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from datapipe import Pipeline
from datapipe.stages import ExportQuantized, ReadParquet, TrainPlain

rng = np.random.default_rng(3)
kind = rng.integers(0, 3, 900)
flowers = pl.DataFrame(
    {"petal": kind + rng.normal(0, 0.2, 900), "leaf": rng.normal(0, 1, 900), "kind": kind}
)

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "flowers.parquet"
    flowers.write_parquet(file)
    pipeline = Pipeline(
        "flowers",
        [
            ReadParquet(file, label="kind", licence="CC0-1.0"),
            TrainPlain(epochs=5),
            ExportQuantized(formats=("onnx",)),
        ],
    )
    run = pipeline.run(seed=7, store=Path(folder) / "store")
    for name in ("train.plain", "export.onnx"):
        print(f"{name}: {run.finding(name).says}")
    for model, rows, source, licence in run.sql(
        "select name, rows, source, licence from model_sources"
    ).rows():
        print(f"{model} rests on {rows} rows of {source}, licence {licence}")
