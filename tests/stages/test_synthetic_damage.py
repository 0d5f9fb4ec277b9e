# SPDX-License-Identifier: Apache-2.0
"""What `synthetic.diversity` says of real mixes, against the damage to a model trained on them."""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages import CorpusDiversity
from datapipe.stages.synthetic._drift import RARE
from datapipe.stages.synthetic._language import learnt, surprise
from datapipe.stages.synthetic._style import prompt_groups
from datapipe.stages.synthetic._tokens import tokens_of

SHARED = Path(os.environ.get("DATAPIPE_TEST_DATA", "../shared/data")) / "synthetic"
CELLS = {
    "fastdetect/xsum": ("gpt2-xl", "opt-2.7b"),
    "fastdetect/writing": ("gpt2-xl", "opt-2.7b"),
    "detectrl/xsum": ("chatgpt", "google-palm"),
    "detectrl/writing": ("chatgpt", "google-palm"),
    "detectrl/arxiv": ("chatgpt", "google-palm"),
}
SHARES, SEEDS, ROWS = (0.25, 0.5, 0.75, 1.0), range(5), 90


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


def spearman(a, b):
    rank = [np.argsort(np.argsort(x, kind="stable"), kind="stable") for x in (a, b)]
    return float(np.corrcoef(*rank)[0, 1])


def damage(texts, alone, unseen):
    """Bits a word of unseen people's text costs a trigram model, and rare words that are gone.

    Both beyond those of as many words of people.
    """
    tokens = tokens_of(pl.concat([unseen, texts, alone]))
    edges = np.cumsum([0, len(unseen), len(texts), len(alone)])
    asked, ours, people = (tokens.of(np.arange(a, b)) for a, b in pairwise(edges))
    size = min(ours.size, people.size)
    counts = np.bincount(asked, minlength=tokens.kinds)
    rare = np.flatnonzero((counts > 0) & (counts <= RARE))
    told = []
    for side in (ours[:size], people[:size]):
        bits = surprise(learnt(side, tokens.kinds, order=3), asked).mean()
        told.append((float(bits), float(1.0 - np.isin(rare, side).mean())))
    return np.subtract(*told)


def looked(cell, seed, mixes):
    """Measured damage and what the stage says, one line for each mix; nothing shares a prompt."""
    rng = np.random.default_rng(seed)
    rows = real_texts().filter(pl.col("cell") == cell)
    people = rows.filter(pl.col("label") == 0)
    people = people[rng.permutation(people.height)]
    reference, unseen, own = (people.slice(i * ROWS, ROWS) for i in range(3))
    apart = pl.concat([reference["prompt"], unseen["prompt"]]).unique().implode()
    found = []
    for maker, share in mixes:
        made = rows.filter(pl.col("source_model") == maker, ~pl.col("prompt").is_in(apart))
        made = made[rng.permutation(made.height)[: round(share * ROWS)]]
        texts = pl.concat([made["text"], own["text"].head(ROWS - made.height)])
        texts = texts.gather(rng.permutation(len(texts)))
        context = Context(seed, Path(), reference=Dataset.of(reference.select("text")))
        data = Dataset.of(pl.DataFrame({"text": texts}), Roles.of(text="text"))
        said = CorpusDiversity().run(data, context).findings[0].details
        found.append(
            (*damage(texts, own["text"], unseen["text"]), said["fit_loss"], said["tail_loss"])
        )
    return np.array(found)


@pytest.mark.power
@pytest.mark.timeout(3000)
@pytest.mark.skipif(real_texts() is None, reason=f"no real texts under {SHARED}")
def test_damage_of_real_mixes_is_ranked_better_than_by_the_true_share():
    """Nothing is fitted, so that every domain is one that was left out; means over five seeds."""
    told = {}
    for cell, makers in CELLS.items():
        mixes = [(makers[0], 0.0), *((m, s) for m in makers for s in SHARES)]
        made = np.mean([looked(cell, seed, mixes) for seed in SEEDS], axis=0)
        share = np.array([s for _, s in mixes])
        told[cell] = [
            (spearman(made[:, 2 + k], made[:, k]), spearman(share, made[:, k])) for k in (0, 1)
        ]
    figures = np.array(list(told.values()))  # cell, measure, (stage, oracle)
    assert (figures[:, :, 0].mean(0) >= 0.88).all(), told
    assert (figures[:, :, 0].mean(0) > figures[:, :, 1].mean(0)).all(), told
