# SPDX-License-Identifier: Apache-2.0
"""Does a fifth of a corpus foretell what the whole recursion does to the tail?"""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.synthetic._recursion import Plan, ngrams, recursion
from datapipe.stages.synthetic.collapse import CollapseForecast

SEEDS, CLEAN_SEEDS = range(4), range(4)
SAMPLE = 1
FLOORS = {"full replacement told": 0.3}
CEILINGS = {"largest error of tail survival": 0.08, "alarms": 0.7}
TEXTS, WORDS, KINDS, GENERATIONS = 240, 150, 8_000, 8


def trial(context):
    """Forecast full replacement from a fifth, and run it on everything."""
    ids = corpus(np.random.default_rng(context.seed))
    found, data = looked(ids, context, share=1.0)
    cut = TEXTS * 9 // 10
    worst = 0.0
    for share in (1.0, 0.5):
        plan = Plan("replace", share)
        chance = np.random.default_rng(9)
        train, unseen = ids[:cut].ravel(), ids[cut:].ravel()
        whole = recursion(train, unseen, plan, GENERATIONS, chance, learner=ngrams(3))
        told = next(s for s in found.details["scenarios"] if s["plan"] == str(plan))
        worst = max(worst, float(np.abs(np.array(told["tail_survival"]) - whole.survival).max()))
    return {
        "largest error of tail survival": worst,
        "full replacement told": (int(found.verdict == "suspect"), 1),
    }, data


def alarm(context):
    """Whether a tenth of generated rows was doubted."""
    ids = corpus(np.random.default_rng(1000 + context.seed))
    return looked(ids, context, share=0.1)[0].verdict == "suspect"


def looked(ids, context, *, share):
    """The finding on the texts, a fifth of them simulated."""
    data = Dataset.of(pl.DataFrame({"t": [words(row) for row in ids]}), Roles.of(text="t"))
    stage = CollapseForecast(share=share, repeats=2, generations=GENERATIONS)
    return stage.run(data, context).findings[0], data


def words(row):
    """Numbers as words of letters."""
    return " ".join("".join("abcdefghij"[int(d)] for d in str(i)) for i in row)


def corpus(rng):
    """Zipf words whose order depends on the one before."""
    use = np.cumsum(np.arange(1, KINDS + 1) ** -1.05)
    made = np.searchsorted(use / use[-1], rng.random((TEXTS, WORDS)))
    for step in range(1, WORDS):
        made[:, step] = (made[:, step] + 31 * (made[:, step - 1] % 7)) % KINDS
    return made
