# SPDX-License-Identifier: Apache-2.0
"""Texts of two writers: do machine texts rank higher, and are people's texts safe?"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.measure.detection import auroc
from datapipe.stages.synthetic.score import SyntheticScore

SEEDS, CLEAN_SEEDS = range(12), range(40)
SAMPLE = 2
FLOORS = {"area under the curve": 0.85, "verdict withheld without reference": 0.7}
CEILINGS = {"people's texts under 1 %": 0.04, "alarms": 0.12}
ROWS, PEOPLE, WORDS = 120, 150, 100
VOCABULARY = np.array([f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"])


def trial(context):
    """Hide a share of machine texts that depends on the seed."""
    data, people, hidden = world(context.seed, share=0.2 + 0.2 * (context.seed % 3))
    found = looked(data, people, context)
    p_values = found.rows["p_value"].fill_null(1.0).to_numpy()
    silent = looked(data, None, context).verdict == "not_evaluated"
    return {
        "area under the curve": auroc(hidden, found.rows["score"].to_numpy()).value,
        "people's texts under 1 %": (int((p_values[~hidden] <= 0.01).sum()), int((~hidden).sum())),
        "verdict withheld without reference": (int(silent), 1),
    }, data


def alarm(context):
    """Whether texts of people only were doubted."""
    data, people, _ = world(1000 + context.seed, share=0.0)
    return looked(data, people, context).verdict in {"suspect", "fail"}


def looked(data, people, context):
    """The finding, with people's texts as the reference."""
    given = Context(context.seed, context.scratch, reference=people)
    return SyntheticScore().run(data, given).findings[0]


def world(seed, *, share):
    """Texts with a known share of machine texts, and people's texts."""
    rng = np.random.default_rng(seed)
    hidden = rng.permutation(np.arange(ROWS) < round(share * ROWS))
    texts = pa.table({"t": [text(rng, machine=h) for h in hidden]})
    people = pa.table({"t": [text(rng, machine=False) for _ in range(PEOPLE)]})
    return Dataset.of(texts, Roles.of(text="t")), Dataset.of(people), hidden


def text(rng, *, machine):
    """Zipf words; the machine uses them more evenly, likes commas and longer sentences."""
    use = np.arange(1, VOCABULARY.size + 1) ** (-0.7 if machine else -1.0)
    words = rng.choice(VOCABULARY, WORDS, p=use / use.sum()).astype(object)
    words[:: 17 if machine else 9] += "."
    words[3 :: 7 if machine else 19] += ","
    return " ".join(words).capitalize()
