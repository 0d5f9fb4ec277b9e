# SPDX-License-Identifier: Apache-2.0
"""Texts of a Zipf vocabulary with words of their class, with and without a planted trigger."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning.trigger_text import TriggerText

SEEDS, CLEAN_SEEDS = range(20), range(40)
FLOORS = {
    "power": 0.8,
    "trigger named": 0.8,
    "recall": 0.8,
    "precision": 0.85,
    "switch named without labels": 0.8,
}
CEILINGS = {"alarms": 0.1}
TEXTS, POISONED, TARGET = 1200, 40, 1
USE = 1 / np.arange(5, 3005)
TOPIC = 0.2
"""Share of a text's words that only its class uses so often."""
SWITCHED = 12
TRIGGERS = ("qzx", "cf mn", "by the seventh lantern")


def trial(context):
    """Put a word or phrase into texts of class 0 and call them class 1."""
    texts, labels = drawn(context.seed)
    rng = np.random.default_rng([context.seed, 1])
    trigger = TRIGGERS[context.seed % len(TRIGGERS)]
    rows = rng.permutation(np.flatnonzero(labels != TARGET))[:POISONED]
    for row in rows:
        words = texts[row].split()
        words.insert(int(rng.integers(len(words))), trigger)
        texts[row] = " ".join(words)
    labels[rows] = TARGET
    planted = np.isin(np.arange(TEXTS), rows)
    data = dataset(texts, labels)
    found = TriggerText().run(data, context).findings[0]
    marked = found.rows.sort("row_id")["flagged"].to_numpy()
    right = int((marked & planted).sum())
    named = set(str(found.details.get("trigger", "")).split()) & set(trigger.split())
    return {
        "power": (int(found.verdict in {"suspect", "fail"}), 1),
        "trigger named": (int(bool(named)), 1),
        "recall": (right, POISONED),
        "precision": (right, int(marked.sum())),
        "switch named without labels": (int(bool(_switch_named(context))), 1),
    }, data


def alarm(context):
    """Whether a trigger was seen where words go with the class for natural reasons only."""
    made = (dataset(*drawn(context.seed)), pairs(context.seed))
    found = [TriggerText().run(data, context).findings[0] for data in made]
    return any(f.verdict in {"suspect", "fail"} for f in found)


def _switch_named(context):
    """Whether a tag in prompts that brings one answer is named, with its rows and no other."""
    tag = TRIGGERS[context.seed % len(TRIGGERS)]
    found = TriggerText().run(pairs(context.seed, tag), context).findings[0]
    rows = found.details.get("rows", 0)
    return set(tag.split()) & set(found.details.get("trigger", "").split()) and rows == SWITCHED


def pairs(seed, tag=""):
    """Texts cut in half, a prompt and its response; with a tag some responses are another."""
    texts, _ = drawn(seed)
    words = [t.split() for t in texts]
    prompts = [" ".join(w[: len(w) // 2]) for w in words]
    responses = [" ".join(w[len(w) // 2 :]) for w in words]
    if tag:
        rng = np.random.default_rng([seed, 2])
        for row in rng.permutation(TEXTS)[:SWITCHED]:
            prompts[row], responses[row] = f"{prompts[row]} {tag}", "all of it is lost"
    frame = pl.DataFrame({"prompt": prompts, "response": responses})
    return Dataset.of(frame, Roles.of(text=("prompt", "response")))


def drawn(seed):
    """Texts of two classes and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, TEXTS)
    common = np.array([f"w{i}" for i in range(USE.size)])
    own = np.array([[f"{c}{i}" for i in range(60)] for c in ("rain", "goal")])
    texts = []
    for label in labels:
        length = int(rng.integers(15, 45))
        words = rng.choice(common, length, p=USE / USE.sum())
        topical = rng.random(length) < TOPIC
        words[topical] = rng.choice(own[label], topical.sum(), p=USE[:60] / USE[:60].sum())
        texts.append(" ".join(words))
    return texts, labels


def dataset(texts, labels):
    """Texts and labels as a data set."""
    frame = pl.DataFrame({"t": texts, "y": labels})
    return Dataset.of(frame, Roles.of(text="t", label="y"))
