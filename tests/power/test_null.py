# SPDX-License-Identifier: Apache-2.0
"""Clean subsamples of real sets: how often the detectors of an audit say *fail*, and of which rows.

Subsamples are drawn without replacement: copies would leak through neighbours and folds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.measure.intervals import clopper_pearson
from datapipe.stages import LabelFlips, SourceShift, TriggerImage, TriggerTable, TriggerText

SETS = {
    "sst2_train_clean_dev": ({"text": "text", "label": "label"}, TriggerText),
    "sms_spam_dev": ({"text": "text", "label": "label"}, TriggerText),
    "agnews_dev": ({"text": "text", "label": "label"}, TriggerText),
    "mnist_dev": ({"image": "pixels", "label": "label"}, TriggerImage),
    "adult_dev": ({"label": "income"}, TriggerTable),
    "german_credit_dev": ({"label": "Customer class"}, TriggerTable),
    "thyroid_dev": ({"label": "diagnosis"}, TriggerTable),
}
ROWS, SOURCES, ROUNDS, MOST_FAILS, MOST_ROWS = 800, 20, 30, 0.08, 0.001


def looked(path: Path, seed: int) -> tuple[bool, int, int]:
    """Whether any detector failed a clean subsample, and how many of how many rows were flagged."""
    roles, trigger = SETS[path.stem]
    frame = pl.read_parquet(path).sample(ROWS, seed=seed, shuffle=True)
    rng = np.random.default_rng(seed)
    frame = frame.with_columns(by=pl.Series(rng.permutation(np.arange(ROWS) % SOURCES)))
    if "image" in roles:
        pixels = np.stack([np.frombuffer(p, np.uint8) for p in frame[roles["image"]]])
        frame = frame.with_columns(pl.Series(roles["image"], pixels)).drop("row")
    data = Dataset.of(frame, Roles.of(**roles, source="by"))
    found = [
        finding
        for stage in (LabelFlips(), SourceShift(), trigger())
        for finding in stage.run(data, Context(seed, Path())).findings
    ]
    flagged = [f.rows.filter("flagged")["row_id"] for f in found if f.rows is not None]
    told = [f"{f.kind} {f.p_value:.2g}: {f.says}" for f in found if f.verdict == "fail"]
    if told:
        print(path.stem, seed, told)
    return bool(told), len(set().union(*flagged)), ROWS


SHORT = ("sms_spam_dev", "mnist_dev", "adult_dev")


@pytest.mark.parametrize(
    "name", [n if n in SHORT else pytest.param(n, marks=pytest.mark.power) for n in SETS]
)
def test_a_clean_subsample_does_not_fail(real_data: Callable[[str], Path], name: str):
    """One subsample of each set; it contradicts the limit only where the rate is far beyond it."""
    failed, rows, _ = looked(real_data(f"poison/{name}.parquet"), 0)
    assert not failed
    assert rows <= 0.02 * ROWS


@pytest.mark.power
@pytest.mark.timeout(3600)
def test_two_hundred_clean_subsamples(real_data: Callable[[str], Path]):
    made = []
    for name in SETS:
        told = [looked(real_data(f"poison/{name}.parquet"), s) for s in range(1, ROUNDS + 1)]
        failed, flagged, asked = (sum(column) for column in zip(*told, strict=True))
        print(f"{name}: {failed} of {ROUNDS} fail; {flagged} of {asked} rows flagged", flush=True)
        made += told
    fails = clopper_pearson(sum(failed for failed, _, _ in made), len(made))
    rows = sum(rows for _, rows, _ in made) / sum(n for _, _, n in made)
    print(f"fail: {fails}; rows flagged: {rows:.5f}")
    assert fails.high <= MOST_FAILS
    assert rows <= MOST_ROWS
