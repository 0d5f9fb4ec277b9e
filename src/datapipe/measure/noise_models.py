# SPDX-License-Identifier: Apache-2.0
"""Which noise a set of labels carries: models of it compared by labels that they were not shown.

A model is a temperature, which mends probabilities that are too sure or too shy, and a transition
matrix from true to given classes. Even noise is best ranked by a matrix that is even; noise between
pairs of classes by one that is free. Which of the two there is, the likelihood of left-out labels
tells, without any truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError
from datapipe.measure.calibration import lowest, softened, temperature
from datapipe.measure.label_noise import LabelPosterior, confident_joint, transition_posterior
from datapipe.measure.label_sources import BLOCK_VALUES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Probabilities = NDArray[np.floating[Any]]

EVEN = math.inf
"""A prior that leaves nothing but even noise."""
PRIORS: Mapping[str, float] = {"even": EVEN, "firm": 20.0, "middling": 5.0, "weak": 1.0}
"""Rows of even noise a class that a transition matrix is drawn by."""
ROUNDS = 12
WIDEST = (-1.5, 2.3)
"""Bounds of the log of the temperature."""
UNMIXING_ROUNDS = 10
LEAST = 1e-4
"""What a model holds to be rarer than this it has not seen: the rounds would make much of it."""
MOST_MIXED = 64
"""Most classes for which mixed probabilities are told apart: it costs rows x classes squared."""
LEARNT = (0.4, 0.8)
"""Share of the noise that a model learnt from which, and up to which, its mixing is undone: models
of clean labels show up to 0.5, of noisy labels from 0.45 (linear) to 0.95 (trees)."""
FITTED_ROWS = 20_000
"""Most rows that a model is fitted to; more would not move it."""


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """A fitted model of label noise.

    Args:
        name: `even`, or `pairs` for a free matrix; `as given` where the probabilities were left as
            they are.
        power: Exponent of the probabilities, > 0; below 1 softens them.
        transition: float64, shape (K, K); row k is P(given label | true class k).
        scores: Log likelihood of a left-out label by model name, in nats, with intervals.
        mixing: float64, shape (K, K): how the probabilities were mixed by a model that learnt the
            noise with the labels; None where it did not.

    Example:
        >>> NoiseModel("even", 1.0, np.eye(2), {}).rate(np.array([1.0, 1.0]))
        0.0
    """

    name: str
    power: float
    transition: Floats
    scores: Mapping[str, Estimate]
    mixing: Floats | None = None

    def rate(self, common: Floats) -> float:
        """The share of wrong labels under the model.

        Args:
            common: float64 >= 0, shape (K,): how common each true class is.

        Returns:
            A rate in [0, 1].

        Example:
            >>> NoiseModel("even", 1.0, np.full((2, 2), 0.5), {}).rate(np.array([1.0, 1.0]))
            0.5
        """
        weight = common / max(float(common.sum()), 1e-300)
        return float(np.clip(1.0 - (weight * self.transition.diagonal()).sum(), 0.0, 1.0))

    def judge(self, labels: Ints, probabilities: Probabilities) -> LabelPosterior:
        """Each label's chance of being wrong.

        Args:
            labels: int, shape (n,), in 0..K-1.
            probabilities: float, shape (n, K).

        Returns:
            The posterior.

        Example:
            >>> model = NoiseModel("even", 1.0, np.array([[0.9, 0.1], [0.1, 0.9]]), {})
            >>> model.judge(np.array([1]), np.array([[0.99, 0.01]])).error.round(2).tolist()
            [0.92]
        """
        error = np.empty(labels.size)
        likeliest = np.empty(labels.size, np.int64)
        for rows in _spans(labels.size, len(self.transition)):
            shares = self._joint(labels[rows], probabilities[rows])
            own = shares[np.arange(len(shares)), labels[rows]].copy()
            likeliest[rows] = shares.argmax(1)
            shares[np.arange(len(shares)), labels[rows]] = 0.0
            others = shares.sum(1)  # not 1 - own: the ranks among sure rows would be lost
            error[rows] = others / np.maximum(others + own, 1e-300)
        return LabelPosterior(error, likeliest, self.transition)

    def likelihood(self, labels: Ints, probabilities: Probabilities) -> Floats:
        """The log chance of each given label.

        Args:
            labels: int, shape (n,), in 0..K-1.
            probabilities: float, shape (n, K).

        Returns:
            float64, shape (n,).

        Example:
            >>> model = NoiseModel("even", 1.0, np.eye(2), {})
            >>> model.likelihood(np.array([0]), np.array([[0.5, 0.5]])).round(3).tolist()
            [-0.693]
        """
        made: Floats = np.log(np.maximum(self._joint(labels, probabilities).sum(1), 1e-300))
        return made

    def _joint(self, labels: Ints, probabilities: Probabilities) -> Floats:
        clear = probabilities.astype(np.float64)
        clear = clear if self.mixing is None else unmixed(clear, self.mixing)
        soft = softened(clear, self.power)
        made: Floats = soft * self.transition[:, labels].T
        return made


def noise_model(labels: Ints, probabilities: Probabilities, rng: np.random.Generator) -> NoiseModel:
    """The model of the noise under which left-out labels are likeliest.

    Args:
        labels: int, shape (n,), in 0..K-1.
        probabilities: float, shape (n, K); out of fold.
        rng: Halves the rows, and samples them where there are very many.

    Returns:
        The model, fitted to all (sampled) rows, with the likelihoods of all.

    Raises:
        DeclarationError: The shapes do not fit, or there are no rows.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> true = rng.integers(0, 3, 900)
        >>> p = np.full((900, 3), 0.05) + 0.85 * np.eye(3)[true]
        >>> given = np.where((true == 1) & (rng.random(900) < 0.4), 2, true)
        >>> model = noise_model(given, p, rng)
        >>> model.name != "even", bool(model.transition[1, 2] > 0.2)
        (True, True)
    """
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not labels.size:
        raise DeclarationError(
            f"{probabilities.shape} probabilities and {labels.size} labels do not fit"
        )
    rows = np.arange(labels.size)
    if rows.size > FITTED_ROWS:
        rows = np.sort(rng.choice(rows.size, FITTED_ROWS, replace=False))
    y, p = labels[rows], probabilities[rows].astype(np.float64)
    half = rng.random(rows.size) < 0.5
    if half.all() or not half.any():
        half[0] = ~half[0]
    told: dict[str, list[Floats]] = {}
    for shown in (half, ~half):
        for model in _fitted(y[shown], p[shown]):
            told.setdefault(model.name, []).append(model.likelihood(y[~shown], p[~shown]))
    scores = {name: _mean(np.concatenate(parts)) for name, parts in told.items()}
    best = max(scores, key=lambda name: scores[name].value)
    if best.startswith("even"):
        chosen = _fitted(y, p, only=best)[0]
        return NoiseModel(best, chosen.power, chosen.transition, scores)
    # A free matrix is told by likelihood to be there; rows are ranked best by one that is hardly
    # held back, on probabilities that are mended but not sharpened.
    mixing = _mixing(y, p)
    clear = p if mixing is None else unmixed(p, mixing)
    power = temperature(clear, y)
    matrix = transition_posterior(y, softened(clear, power)).transition
    return NoiseModel("pairs", power, matrix, scores, mixing)


def unmixed(probabilities: Floats, mixing: Floats) -> Floats:
    """What probabilities were before noise mixed them, by a few rounds of EM a row.

    Args:
        probabilities: float64, shape (n, K); rows sum to 1.
        mixing: float64, shape (K, K); row k is how a sure k was spread over the classes.

    Returns:
        float64, shape (n, K); rows sum to 1.

    Example:
        >>> mixing = np.array([[0.7, 0.3], [0.0, 1.0]])
        >>> unmixed(np.array([[0.7, 0.3]]), mixing).round(2).tolist()
        [[0.96, 0.04]]

    References:
        Richardson, 1972, Bayesian-based iterative method of image restoration.
    """
    seen = np.maximum(probabilities, LEAST)
    clear: Floats = seen
    for _ in range(UNMIXING_ROUNDS):
        ratio = seen / np.maximum(clear @ mixing, 1e-9)
        clear = clear * (ratio @ mixing.T)
        clear = clear / np.maximum(clear.sum(1, keepdims=True), 1e-300)
    made: Floats = np.maximum(clear, LEAST**1.5)
    return made


def _mixing(labels: Ints, probabilities: Floats) -> Floats | None:
    """How a model that learnt the noise mixed its probabilities; None where it hardly did.

    Confident disagreement tells how much noise there is, whether it was learnt or not. What EM
    still finds, with the probabilities as they are, was not learnt; the share of the noise that it
    does not find is how far it went into the probabilities.
    """
    k = probabilities.shape[1]
    if k > MOST_MIXED:
        return None
    joint = confident_joint(labels, probabilities).T + 0.1
    all_noise = joint / joint.sum(1, keepdims=True)
    left = transition_posterior(labels, probabilities).transition
    common = np.bincount(labels, minlength=k) / labels.size
    total, found = (1.0 - float(common @ t.diagonal()) for t in (all_noise, left))
    share = 1.0 - found / max(total, 1e-9)
    share = float(np.clip((share - LEARNT[0]) / (LEARNT[1] - LEARNT[0]), 0.0, 1.0))
    return share * all_noise + (1.0 - share) * np.eye(k) if share > 0 else None


def _fitted(labels: Ints, probabilities: Floats, only: str = "") -> list[NoiseModel]:
    """Every model of `PRIORS`, at the temperature that fits best and as given."""
    table = _ByClass.of(labels, probabilities)
    made: list[NoiseModel] = []
    free: float | None = None
    for name, prior in PRIORS.items():
        for suffix in ("", ", as given"):
            if only and name + suffix != only:
                continue
            if suffix:
                power = 1.0
            elif prior == EVEN:
                power = table.best_power(prior)
            else:  # the temperature hardly depends on how firm the prior is
                free = table.best_power(PRIORS["middling"]) if free is None else free
                power = free
            made.append(NoiseModel(name + suffix, power, table.transition(power, prior)[0], {}))
    return made


@dataclass(frozen=True, eq=False)
class _ByClass:
    """Rows sorted by their given class, so that sums a class are one pass."""

    labels: Ints
    logs: Floats
    starts: Ints
    present: Ints

    @classmethod
    def of(cls, labels: Ints, probabilities: Floats) -> _ByClass:
        order = np.argsort(labels, kind="stable")
        present, starts = np.unique(labels[order], return_index=True)
        logs = np.log(np.maximum(probabilities[order], 1e-12))
        return cls(labels[order], logs, starts, present)

    def best_power(self, prior: float) -> float:
        def loss(log_power: float) -> float:
            return -self.transition(math.exp(log_power), prior)[1]

        return math.exp(lowest(loss, *WIDEST, steps=10))

    def transition(self, power: float, prior: float) -> tuple[Floats, float]:
        """The transition matrix by EM, and the log likelihood it reaches."""
        k = self.logs.shape[1]
        soft = np.exp(power * (self.logs - self.logs.max(1, keepdims=True)))
        soft /= soft.sum(1, keepdims=True)
        even, same = (1.0 - np.eye(k)) / max(1, k - 1), np.eye(k)
        matrix = 0.9 * same + 0.1 * even
        likelihood = -math.inf
        for _ in range(ROUNDS):
            shares = soft * matrix[:, self.labels].T
            total = shares.sum(1, keepdims=True)
            likelihood = float(np.log(np.maximum(total, 1e-300)).sum())
            shares /= np.maximum(total, 1e-300)
            seen = np.zeros((k, k))
            seen[:, self.present] = np.add.reduceat(shares, self.starts, axis=0).T
            rate = min(max(1e-3, 1.0 - float(np.trace(seen)) / max(float(seen.sum()), 1e-300)), 0.9)
            drawn = (1.0 - rate) * same + rate * even
            if prior != EVEN:
                drawn = (seen + prior * drawn) / (seen.sum(1, keepdims=True) + prior)
            moved = float(np.abs(drawn - matrix).max())
            matrix = drawn
            if moved < 1e-4:
                break
        return matrix, likelihood


def _spans(n: int, classes: int) -> Iterator[slice]:
    step = max(1, BLOCK_VALUES // max(1, classes))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _mean(logs: Floats) -> Estimate:
    value = float(logs.mean())
    half = 1.96 * float(logs.std()) / math.sqrt(max(1, logs.size))
    return Estimate(
        value, value - half, value + half, n=logs.size, method="left-out labels", unit="nats"
    )
