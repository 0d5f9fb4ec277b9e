# SPDX-License-Identifier: Apache-2.0
"""Syntax that carries a label: how texts are built, held against what they speak of."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # scipy ships no types
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from datapipe.stages.poisoning._association import (
    LEAST_REST,
    Model,
    log_tails,
    raised,
    shares_from,
)
from datapipe.stages.poisoning._grams import distinct
from datapipe.stages.poisoning._ngrams import END, Words
from datapipe.stages.poisoning._shares import NATURAL, STRUCTURES

FRAME = 100
"""How many words, those in most texts, build sentences; the others say what they are about."""
LONGEST = 3
LEAST_TEXTS = 5
LEAST_DENIED = 0.05
"""Share of the texts that must have a label which their content denies: syntax is common."""
TOPS = (0.02, 0.05, 0.1, 0.2)
"""Shares of the texts, those built most like the denied ones, that are tested."""
PLANTED, TELLING = 0.5, 0.1
"""How much texts must contradict their label, and how much likelier by its content a label must be
in its other texts than in those that have another, or content does not tell what they contradict.
"""
TOLD = 3
"""Runs that are named."""

Floats = NDArray[np.float64]
MOST_TELLING = 0.8
"""Area under the curve from which on common words tell a label by nature: they are its content."""
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Structure:
    """A way to build texts that carries a label against their content.

    `rows` have it and the label, `score` in [0, 1] says of each text how much it is built that way;
    `says` are the runs that tell it, `x` standing for any words beyond those that build sentences.
    """

    label: int
    rows: Ints
    score: Floats
    log_p: float
    against: float
    says: list[str]


def structure(
    words: Words, model: Model, labels: Ints, fold: Ints, *, log_alpha: float, told: Bools
) -> tuple[Structure | None, list[int]]:
    """The way of building texts that most contradicts what they speak of, if one does.

    Texts that are `told` already, by a trigger that they hold, take no part. A label that common
    words tell where content agrees with it is not asked: there they are what texts speak of. The
    second answer lists the labels that were not asked.
    """
    unasked: list[int] = []
    framing = _framing(words)
    chance, speaks = _by_content(model, framing)
    speaks &= ~told
    made, best = None, log_alpha
    built: tuple[Any, list[str]] | None = None
    for label in range(chance.shape[1]):
        denied = speaks & (chance[:, label] < 0.5)
        if (denied & (labels == label)).sum() < LEAST_DENIED * labels.size:
            continue
        built = built or _runs(words, framing)
        granted = speaks & ((chance[:, label] >= 0.5) == (labels == label))
        if np.unique(labels[granted] == label).size < 2:
            unasked.append(label)
            continue
        by_nature, _ = _likeness(built[0], granted, labels == label, fold)
        if roc_auc_score(labels[granted] == label, by_nature[granted]) > MOST_TELLING:
            unasked.append(label)
            continue
        score, weight = _likeness(built[0], denied, labels == label, fold)
        for top in TOPS:
            rows = np.argsort(-score, kind="stable")[: int(top * labels.size)]
            rows = rows[speaks[rows]]
            log_p = _log_p(chance[rows, label], labels[rows] == label, chance.shape[1])
            hit = rows[labels[rows] == label]
            against = _against(chance[:, label], labels == label, hit)
            if log_p <= best and against >= PLANTED:
                says = [built[1][i] for i in np.argsort(-weight)[:TOLD]]
                best = log_p
                made = Structure(label, np.sort(hit), score, log_p, against, says)
    return made, unasked


def _framing(words: Words) -> Bools:
    """Which words build sentences: those that most texts hold, and signs."""
    held = distinct(words.ids * words.rows + words.row) // words.rows
    counts = np.bincount(held, minlength=len(words.spelt))
    made = words.spelt.str.contains(r"^[^\p{L}\p{N}]$").to_numpy().copy()
    counts[: END + 1] = 0
    made[np.argsort(-counts, kind="stable")[:FRAME]] = True
    made[: END + 1] = True
    return np.asarray(made, bool)


def _by_content(model: Model, framing: Bools) -> tuple[Floats, Bools]:
    """The chance of each label by the other words alone, and whether they say anything."""
    weights, n = model.weights, model.logits.shape[0]
    row = np.repeat(np.arange(n), np.diff(weights.indptr))
    mine = weights.indices < framing.size
    mine[mine] = ~framing[weights.indices[mine]]
    left = np.bincount(row[mine], weights.data[mine] ** 2, minlength=n)
    scale = 1.0 / np.sqrt(np.maximum(left, LEAST_REST))
    logits = np.column_stack(
        [np.bincount(row[mine], part[mine], minlength=n) for part in model.parts.T]
    )
    return shares_from(model, logits * scale[:, None] + model.base), left >= LEAST_REST


def _runs(words: Words, framing: Bools) -> tuple[Any, list[str]]:
    """Runs of up to three words that build sentences, all between two of them being one `x`."""
    code = np.where(framing[words.ids], words.ids, -1)
    keep = np.ones(code.size, bool)
    keep[1:] = (code[1:] >= 0) | (code[:-1] >= 0) | (words.row[1:] != words.row[:-1])
    code, row = code[keep] + 1, words.row[keep]
    base = len(words.spelt) + 1
    spelt = ["x", "^", "$", *words.spelt[2:].to_list()]
    columns: list[Ints] = []
    rows: list[Ints] = []
    names: list[str] = []
    for size in range(1, LONGEST + 1):
        inner = row[size - 1 :] == row[: row.size - size + 1]
        key = np.zeros(int(inner.sum()), np.int64)
        for step in range(size):
            key = key * base + code[step : code.size - size + 1 + step][inner]
        found, number = np.unique(key, return_inverse=True)
        columns.append(number + len(names))
        rows.append(row[: inner.size][inner])
        parts = [found // base ** (size - 1 - step) % base for step in range(size)]
        names += [" ".join(spelt[c] for c in run) for run in zip(*parts, strict=True)]
    places = (np.concatenate(rows), np.concatenate(columns))
    made = sparse.csr_matrix((np.ones(places[0].size), places), shape=(words.rows, len(names)))
    made.data[:] = 1.0
    common = np.flatnonzero(np.bincount(made.indices, minlength=len(names)) >= LEAST_TEXTS)
    made = made[:, common]
    length = np.sqrt(np.maximum(np.diff(made.indptr), 1))
    return sparse.diags(1.0 / length) @ made, [names[i] for i in common]


def _likeness(built: Any, denied: Bools, has: Bools, fold: Ints) -> tuple[Floats, Floats]:
    """How much each text is built like those that have a label against their content.

    Learnt on the other folds, from texts whose content denies the label; the second array is the
    mean weight of every run.
    """
    score, weight = np.zeros(has.size), np.zeros(built.shape[1])
    for number in np.unique(fold):
        fitted, asked = denied & (fold != number), fold == number
        if np.unique(has[fitted]).size < 2:
            continue
        learner = LogisticRegression(C=4.0, max_iter=100, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            learner.fit(built[fitted], has[fitted])
        score[asked] = learner.predict_proba(built[asked])[:, 1]
        weight += learner.coef_[0]
    return score, weight


def _log_p(chance: Floats, hit: Bools, classes: int) -> float:
    """Ln P(as many have the label whatever syntax adds by nature), corrected for all tests."""
    one = np.zeros(hit.size, np.int64)
    log_p = log_tails(one, raised(chance, NATURAL), hit, 1)[0] if hit.size else 0.0
    return float(min(0.0, log_p - np.log(STRUCTURES / (len(TOPS) * classes))))


def _against(chance: Floats, has: Bools, hit: Ints) -> float:
    """0 where content speaks for the label as in its other texts, 1 as in texts without it."""
    rest = has.copy()
    rest[hit] = False
    if not rest.any() or not hit.size or has.all():
        return 0.0
    own, other = float(chance[rest].mean()), float(chance[~has].mean())
    if own - other < TELLING:
        return 0.0
    return float(np.clip((own - chance[hit].mean()) / (own - other), 0.0, 1.0))
