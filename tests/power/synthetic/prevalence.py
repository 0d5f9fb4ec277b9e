# SPDX-License-Identifier: Apache-2.0
"""Texts of two writers in a known mixture: does the interval hold the share that was mixed?"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID, Roles
from datapipe.core.source import Source
from datapipe.stages.synthetic.prevalence import SyntheticShare

SEEDS, CLEAN_SEEDS = range(20), range(20)
FLOORS = {"interval holds the share": 0.7, "precision of marked rows": 0.75}
CEILINGS = {"width of the interval": 0.35, "people's texts marked": 0.05, "alarms": 0.2}
HIDDEN, KNOWN, PEOPLE, WORDS = 120, 80, 100, 120
VOCABULARY = np.array([f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"])


def trial(context):
    """Mix a share that depends on the seed and compare it with the interval."""
    data, people, hidden = world(context.seed, share=(context.seed % 5) / 5)
    found = looked(data, people, context)
    truth = (KNOWN + hidden.sum()) / (HIDDEN + KNOWN)
    held = found.measure.low - 1e-9 <= truth <= found.measure.high + 1e-9
    marked = found.rows.sort("row_id")["flagged"].to_numpy()
    return {
        "interval holds the share": (int(held), 1),
        "width of the interval": found.measure.high - found.measure.low,
        "precision of marked rows": (int((marked & hidden).sum()), int(marked.sum())),
        "people's texts marked": (int((marked & ~hidden).sum()), int((~hidden).sum())),
    }, data


def alarm(context):
    """Whether texts of people only were doubted."""
    data, people, _ = world(1000 + context.seed, share=0.0)
    return looked(data, people, context).verdict in {"suspect", "fail"}


def looked(data, people, context):
    """The finding, with people's texts as the reference."""
    given = Context(context.seed, context.scratch, reference=people)
    return SyntheticShare().run(data, given).findings[0]


def world(seed, *, share):
    """Undeclared texts with a known share of machine texts, declared ones, people's texts."""
    rng = np.random.default_rng(seed)
    hidden = rng.permutation(np.arange(HIDDEN) < round(share * HIDDEN))
    texts = [text(rng, machine=h) for h in hidden]
    texts += [text(rng, machine=True) for _ in range(KNOWN)]
    ids = [(1 << 40) + i for i in range(HIDDEN)] + [(2 << 40) + i for i in range(KNOWN)]
    frame = pl.DataFrame({"t": texts, ROW_ID: pl.Series(ids, dtype=pl.UInt64)})
    sources = (
        Source("mix", "arrow:mix", number=1, rows=HIDDEN),
        Source("known", "arrow:known", number=2, rows=KNOWN, synthetic=True, generator="one"),
    )
    people = pa.table({"t": [text(rng, machine=False) for _ in range(PEOPLE)]})
    data = Dataset(frame.lazy(), Roles.of(text="t"), sources=sources)
    return data, Dataset.of(people, Roles.of(text="t")), hidden


def text(rng, *, machine):
    """Zipf words; the machine uses them more evenly, likes commas and longer sentences."""
    use = np.arange(1, VOCABULARY.size + 1) ** (-0.6 if machine else -1.0)
    words = rng.choice(VOCABULARY, WORDS, p=use / use.sum()).astype(object)
    words[:: 17 if machine else 9] += "."
    words[3 :: 7 if machine else 19] += ","
    return " ".join(words).capitalize()
