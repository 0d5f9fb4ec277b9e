# SPDX-License-Identifier: Apache-2.0
"""Corpora of people's words, whole or without their rare words."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.synthetic.diversity import CorpusDiversity

SEEDS, CLEAN_SEEDS = range(20), range(20)
FLOORS = {"lost tails told": 0.8, "copies told as duplicates": 0.8}
CEILINGS = {"alarms": 0.2}
TEXTS, WORDS = 120, 120
VOCABULARY = np.array(
    [a + b + c + d for a in "bdfgklmnpr" for b in "aeiou" for c in "lmnrst" for d in "aeiouy"]
)


def trial(context):
    """A corpus whose rare words are gone, then one with copies."""
    rng = np.random.default_rng(context.seed)
    poor = looked(texts(rng, kinds=600), texts(rng), context)
    own = texts(rng)
    copied = looked([*own, *own[:30]], texts(rng), context)
    told = copied[1].verdict == "suspect" and copied[0].verdict == "clean"
    data = Dataset.of(pl.DataFrame({"t": own}))
    return {
        "lost tails told": (int(poor[0].verdict == "suspect"), 1),
        "copies told as duplicates": (int(told), 1),
    }, data


def alarm(context):
    """Whether a corpus of people was doubted."""
    rng = np.random.default_rng(1000 + context.seed)
    return looked(texts(rng), texts(rng), context)[0].verdict == "suspect"


def looked(rows, people, context):
    """The findings, with people's texts as the reference."""
    reference = Dataset.of(pl.DataFrame({"t": people}))
    given = Context(context.seed, context.scratch, reference=reference)
    data = Dataset.of(pl.DataFrame({"t": rows}), Roles.of(text="t"))
    return CorpusDiversity().run(data, given).findings


def texts(rng, *, kinds=VOCABULARY.size):
    """Zipf words, at most so many kinds."""
    use = np.arange(1, kinds + 1) ** -1.0
    drawn = rng.choice(VOCABULARY[:kinds], (TEXTS, WORDS), p=use / use.sum())
    return [" ".join(row) for row in drawn]
