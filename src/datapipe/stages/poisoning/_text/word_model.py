# SPDX-License-Identifier: Apache-2.0
"""Which label the words of a text speak for, learnt from other texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.bag import Bag, fitted
from datapipe.stages.poisoning._text.grams import Grams
from datapipe.stages.poisoning._text.words import Words

STRENGTHS = (4.0, 30.0)
"""Inverse strengths of regularisation: a small class among many texts needs a weak one."""
STEPS = 50

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Model:
    """Out-of-fold logistic regression on words.

    `coef[j]` (K, V) and `intercepts[j]` (K,) were fitted on the rows whose `fold` is not j;
    `logits` is (n, K) without the intercept, which `base` (n, K) holds.
    """

    bag: Bag
    coef: NDArray[np.float32]
    fold: Ints
    logits: NDArray[np.float32]
    intercepts: Floats
    slope: float
    grams: Grams

    @property
    def base(self) -> Floats:
        """The intercepts of each row."""
        return self.intercepts[self.fold]

    @property
    def silent(self) -> float:
        """The share of texts none of whose words another text holds."""
        return float((np.diff(self.bag.ends) == 0).mean())


def fit_out_of_fold(words: Words, labels: Ints, fold: Ints, classes: int) -> Model:
    """Fit on the other folds and keep what each word adds to each row.

    Of two strengths of regularisation the one stays that foretells the other folds better.
    """
    bag = Bag.of(words)
    rows = np.arange(labels.size)
    return max(
        (
            _fitted_with(strength, (bag, words.grams), labels, fold, classes)
            for strength in STRENGTHS
        ),
        key=lambda m: float(np.log(class_shares(m)[rows, labels]).mean()),
    )


def _fitted_with(
    strength: float, texts: tuple[Bag, Grams], labels: Ints, fold: Ints, classes: int
) -> Model:
    bag, grams = texts
    folds = int(fold.max()) + 1
    coef = np.zeros((folds, classes, bag.idf.size), np.float32)
    intercepts, logits = np.zeros((folds, classes)), np.zeros((labels.size, classes), np.float32)
    for number in np.unique(fold):
        asked = fold == number
        coef[number], intercepts[number] = fitted(bag, labels, ~asked, classes, strength)
        bag.speak(coef[number], asked, logits)
    slope = _slope(logits + intercepts[fold], labels)
    return Model(bag, coef, fold, logits, intercepts, slope, grams)


def _slope(logits: Floats, labels: Ints) -> float:
    """The factor of the logits under which the labels are likeliest, by Newton's method on it."""
    slope, rows = 1.0, np.arange(labels.size)
    for _ in range(STEPS):
        shares = softmax(slope * logits)
        mean = (shares * logits).sum(1)
        gain = float((logits[rows, labels] - mean).sum())
        bend = float(((shares * logits**2).sum(1) - mean**2).sum())
        step = gain / bend if bend > 0 else 0.0
        slope = min(max(slope + step, 0.1), 10.0)
        if abs(step) < 1e-6:
            break
    return slope


def class_shares(model: Model) -> Floats:
    """The calibrated out-of-fold chance of each label in each row, shape (n, K)."""
    logits = model.base
    logits += model.logits
    logits *= model.slope
    return softmax(logits)


def shares_from(model: Model, logits: Floats) -> Floats:
    """The calibrated chance of each label by logits, shape (n, K)."""
    return softmax(model.slope * logits)


def learnt_from(some: Bools, model: Model, labels: Ints, heard: Bools) -> Floats:
    """The out-of-fold chance of each label, (n, K), learnt from some texts and some words alone."""
    said = np.zeros(model.grams.width, bool)
    said[: heard.size] = heard
    bag, classes = model.bag.of_words(said), model.logits.shape[1]
    logits = np.zeros((labels.size, classes))
    for number in np.unique(model.fold):
        asked = model.fold == number
        coef, base = fitted(bag, labels, some & ~asked, classes, STRENGTHS[0])
        bag.speak(coef, asked, logits)
        logits[asked] += base
    return softmax(_slope(logits[some], labels[some]) * logits)


def softmax(logits: Floats) -> Floats:
    """Chances of each label by log odds, shape (n, K)."""
    made = logits - logits.max(1, keepdims=True)
    np.exp(made, out=made)
    made /= made.sum(1, keepdims=True)
    return np.asarray(made, np.float64)
