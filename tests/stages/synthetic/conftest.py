# SPDX-License-Identifier: Apache-2.0
"""Real texts of people and machines that the family is tried on, where they are at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from datapipe.stages.synthetic._style import prompt_groups

COLUMNS = ("text", "source_model", "domain")


@pytest.fixture(scope="session")
def real_texts(real_data: Callable[[str], Path]) -> pl.DataFrame:
    """Texts with `label` (1 for machines), `source_model`, `domain`, `cell` and `prompt`."""
    frames = [
        pl.read_parquet(real_data(f"synthetic/{name}.parquet"))
        .select(*COLUMNS, pl.col("label").cast(pl.Int64))
        .with_columns(cell=pl.lit(name) + "/" + pl.col("domain"))
        for name in ("fastdetect", "detectrl")
    ]
    rows = pl.concat(frames)
    return rows.with_columns(prompt=prompt_groups(rows["text"]))
