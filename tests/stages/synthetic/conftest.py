# SPDX-License-Identifier: Apache-2.0
"""Real texts of people and machines that the family is tried on, where they are at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from datapipe.stages.synthetic._style import prompt_groups

COLUMNS = ("text", "source_model", "domain")
LEAST_WORDS, LEAST_PEOPLE = 18, 260


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


@pytest.fixture(scope="session")
def populations(real_data: Callable[[str], Path]) -> dict[str, tuple[pl.Series, pl.Series]]:
    """Texts of people, and of machines where there are any, of every domain in every file.

    Any file put beside the two is tried too, such as essays of writers in a second language; so is
    what people wrote for other tasks.
    """
    found = {}
    for path in sorted(real_data("synthetic").glob("*.parquet")):
        rows = pl.read_parquet(path).filter(pl.col("text").str.count_matches(r"\S+") >= LEAST_WORDS)
        for (domain,), part in rows.group_by("domain", maintain_order=True):
            sides = (
                part.filter(pl.col("label") == k)["text"].unique(maintain_order=True)
                for k in (0, 1)
            )
            found[f"{path.stem}/{domain}"] = tuple(sides)
    for name in ("agnews_dev", "sst2_train_clean_dev", "sms_spam_dev"):
        texts = pl.read_parquet(real_data(f"poison/{name}.parquet"))["text"].unique(
            maintain_order=True
        )
        long = texts.filter(texts.str.count_matches(r"\S+") >= LEAST_WORDS)
        found[name] = (long, long.head(0))
    return {name: sides for name, sides in found.items() if sides[0].len() >= LEAST_PEOPLE}
