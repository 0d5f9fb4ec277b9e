# SPDX-License-Identifier: Apache-2.0
"""Token sequences drawn with and without a key: are marked ones found, are others safe?"""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.features.text import mixed
from datapipe.stages.synthetic._greenlist import ODD, green
from datapipe.stages.synthetic.watermark import WatermarkKeys

SEEDS, CLEAN_SEEDS = range(8), range(8)
SAMPLE = 1
FLOORS = {"marked sequences found": 0.99}
CEILINGS = {"unmarked under 0.0001": 3e-4, "alarms": 0.4}
KINDS, LENGTH, MARKED, PLAIN, TRIES = 2_000, 200, 100, 9_000, 24
GAMMA, DELTA = 0.25, 2.0


def trial(context):
    """Mix marked sequences with others."""
    rng, key = np.random.default_rng(context.seed), f"key {context.seed}".encode()
    tokens = np.concatenate([drawn(rng, MARKED, key), drawn(rng, PLAIN)])
    found, data = looked(tokens, key, context)
    p_values = found.rows["p_value"].to_numpy()
    return {
        "marked sequences found": (int(found.rows["flagged"][:MARKED].sum()), MARKED),
        "unmarked under 0.0001": (int((p_values[MARKED:] <= 1e-4).sum()), PLAIN),
    }, data


def alarm(context):
    """Whether sequences without the key were doubted."""
    tokens = drawn(np.random.default_rng(1000 + context.seed), PLAIN)
    return looked(tokens, b"another key", context)[0].verdict == "suspect"


def looked(tokens, key, context):
    """The finding on a column of token numbers."""
    path = context.scratch / "watermark.key"
    path.write_bytes(key)
    data = Dataset.of(pl.DataFrame({"ids": tokens.tolist()}))
    return WatermarkKeys(str(path), tokens="ids").run(data, context).findings[0], data


def drawn(rng, n, key=None):
    """Zipf tokens whose order depends on the one before; a key adds to the odds of green ones."""
    use = np.cumsum(np.arange(1, KINDS + 1) ** -1.0)
    made = np.empty((n, LENGTH), np.int64)
    made[:, 0] = rng.integers(0, KINDS, n)
    tries = TRIES if key else 1
    for step in range(1, LENGTH):
        token = np.searchsorted(use / use[-1], rng.random((n, tries)))
        token = (token + made[:, step - 1, None] * 7919) % KINDS
        if key:
            context = mixed(np.zeros(n, np.uint64) * ODD + made[:, step - 1].astype(np.uint64))
            wide = np.repeat(context, tries).reshape(n, tries)
            odds = np.where(
                green(key, wide, token.astype(np.uint64), gamma=GAMMA), 1.0, np.exp(-DELTA)
            )
            token = token[np.arange(n), (rng.random((n, tries)) < odds).argmax(1), None]
        made[:, step] = token[:, 0]
    return made
