# SPDX-License-Identifier: Apache-2.0
"""Families of machines: taught apart, listened to where their scores have two heaps."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.measure.detection import auroc
from datapipe.stages import SyntheticScore
from datapipe.stages.synthetic._families import families, family_scores, heard
from datapipe.stages.synthetic._style import prompt_groups
from datapipe.stages.synthetic._views import Views

SHARED = Path(os.environ.get("DATAPIPE_TEST_DATA", "../shared/data")) / "synthetic"


def labelled(seed=0, n=120):
    """People and two makers who depart from them in different ways, in two places."""
    rng = np.random.default_rng(seed)
    makers = np.repeat(["", "helpful", "plain"], n)
    kind = (makers != "").astype(np.int64)
    values = rng.normal(size=(3 * n, 6))
    values[makers == "helpful", 0] += 4.0
    values[makers == "plain", 2] -= 2.0
    places = pl.Series(np.tile(["here", "there"], 3 * n // 2))
    values[(places == "there").to_numpy(), 1] += 5.0  # a place is no maker
    return values, kind, pl.Series(makers), places


def test_makers_who_depart_in_different_ways_are_apart():
    values, kind, makers, places = labelled()
    found = families(values, kind, makers, places)
    assert (found[kind == 0] == -1).all()
    one, other = (set(found[(makers == m).to_numpy()]) for m in ("helpful", "plain"))
    assert one | other == {0, 1}
    assert one != other
    values[kind == 1, 3:] += 9.0  # now they depart in one way
    assert (families(values, kind, makers, places) == -1).all()
    assert (families(values, kind, pl.Series(["one"] * kind.size), places) == -1).all()


def test_a_family_is_known_where_nobody_labelled():
    values, kind, makers, places = labelled()
    rng = np.random.default_rng(1)
    hidden = np.arange(100) < 50
    asked = rng.normal(size=(100, 6)) + 9.0 * np.eye(6)[1]
    asked[hidden, 0] += 4.0
    rows = Views(
        np.vstack([values, asked]), (), np.ones(460, bool),
        pl.Series(np.arange(460)).cast(pl.String),
    )  # fmt: skip
    kind = np.append(kind, np.full(100, -1))
    place = pl.concat([places, pl.Series([""] * 100)])
    family = np.append(families(values, kind[:360], makers, places), np.full(100, -1))
    told = [family_scores(rows, kind, (family == f).astype(int), place, kind < 0) for f in (0, 1)]
    assert auroc(hidden, heard([rng.normal(size=100)], told)).value > 0.9
    assert min(auroc(hidden, t).value for t in told) < 0.7
    few = family_scores(rows, kind, np.zeros(460, int), place, kind < 0)
    assert not few.any()


def test_two_heaps_are_heard_over_one():
    rng = np.random.default_rng(2)
    truth = np.arange(400) < 200
    heaps, noise = rng.normal(size=400) + 6.0 * truth, rng.normal(size=400)
    assert auroc(truth, heard([noise], [heaps, noise])).value > 0.95
    assert auroc(truth, heard([heaps], [-heaps, noise])).value == 1  # nobody else is asked
    assert np.isfinite(heard([np.zeros(9)], [np.zeros(9)])).all()


@lru_cache(maxsize=1)
def real_texts():
    if not SHARED.is_dir():
        return None
    frames = [
        pl.read_parquet(SHARED / f"{name}.parquet")
        .select("text", pl.col("label").cast(pl.Int64), "source_model", "domain")
        .with_columns(cell=pl.lit(name) + "/" + pl.col("domain"))
        for name in ("fastdetect", "detectrl")
    ]
    rows = pl.concat(frames)
    return rows.with_columns(prompt=prompt_groups(rows["text"]))


CELLS = (
    "fastdetect/xsum", "fastdetect/writing", "detectrl/xsum", "detectrl/writing", "detectrl/arxiv",
)  # fmt: skip


@pytest.mark.power
@pytest.mark.timeout(1800)
@pytest.mark.skipif(real_texts() is None, reason=f"no real texts under {SHARED}")
def test_domains_that_nobody_labelled_are_ranked(tmp_path):
    """Leave one domain out, no reference: the mean area over five cells, each counted alike."""
    rows, areas = real_texts(), {}
    for cell in CELLS:
        asked = rows.filter(pl.col("cell") == cell)
        known = rows.filter(
            pl.col("domain") != asked["domain"][0],
            ~pl.col("prompt").is_in(asked["prompt"].unique().implode()),
        )
        known.select("text", "source_model", "domain").write_parquet(tmp_path / "anchors.parquet")
        data = Dataset.of(asked.select("text"), Roles.of(text="text"))
        stage = SyntheticScore(anchors=tmp_path / "anchors.parquet", least_words=18)
        found = stage.run(data, Context(1, tmp_path)).findings[0]
        assert found.verdict == "not_evaluated"
        scores = found.rows.sort("row_id")["score"].to_numpy()
        areas[cell] = auroc(asked["label"].to_numpy() == 1, scores).value
    assert np.mean(list(areas.values())) >= 0.81, areas
    by_domain = [
        np.mean([a for c, a in areas.items() if c.endswith(d)])
        for d in ("xsum", "writing", "arxiv")
    ]
    assert np.mean(by_domain) >= 0.82, areas
