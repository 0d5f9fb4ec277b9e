# SPDX-License-Identifier: Apache-2.0
"""Scores into p-values against people's rows, and into the chance that a machine made a row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

STEPS = 60
NEWTON = 3
STEEPEST = 12.0
"""A logit falls or rises by at most this per spread of the reference: few rows bear no cliff."""
SHRINK = 1.0


def conformal(reference: Floats, scores: Floats) -> Floats:
    """The share of reference rows, each row itself included, that score at least as high.

    A human row of the same population gets a value <= a with probability at most a, whatever the
    score is worth.

    Args:
        reference: float64, shape (n,).
        scores: float64, shape (m,).

    Returns:
        float64 in (0, 1], shape (m,).

    References:
        Vovk, Gammerman & Shafer, 2005, Algorithmic learning in a random world.
    """
    ordered = np.sort(reference)
    above = reference.size - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1.0 + above) / (reference.size + 1.0), np.float64)


def chances(reference: Floats, scores: Floats) -> Floats:
    """The chance of each row that a machine made it, from rows of people and an unknown mixture.

    The density of machine scores is taken as people's, tilted by an exponential of the score: then
    mixture and tilt follow from the two samples by expectation-maximisation, and the chance rises
    strictly with the score. Nothing is assumed of the share of machine rows.

    Args:
        reference: float64, shape (n,); scores of people's rows.
        scores: float64, shape (m,); scores of the rows to judge.

    Returns:
        float64 in (0, 1), shape (m,).

    References:
        Qin, 1999, Empirical likelihood ratio based confidence intervals for mixture proportions.
        Storey, 2002, A direct approach to false discovery rates.
    """
    share = 1.0 - min(1.0, 2.0 * float((conformal(reference, scores) > 0.5).mean()))
    share = min(max(share, 0.02), 0.98)
    x = np.concatenate([reference, scores])
    held = np.zeros(x.size, np.bool_)
    held[: reference.size] = True
    a, b = 0.0, 1.0
    for _ in range(STEPS):
        w = np.where(held, 0.0, _logistic(a + b * x + np.log(share / (1 - share))))
        share = min(max(float(w[~held].mean()), 0.005), 0.995)
        a, b = _tilted(x, w, a, b)
    return _logistic(a + b * scores + np.log(share / (1 - share)))


def _tilted(x: Floats, w: Floats, a: float, b: float) -> tuple[float, float]:
    """One weighted logistic fit of machines (weight w) against people (1 - w), sides balanced."""
    ones, zeros = w / max(float(w.sum()), 1e-9), (1 - w) / max(float((1 - w).sum()), 1e-9)
    size = min(float(w.sum()), float((1 - w).sum()))
    for _ in range(NEWTON):
        p = _logistic(a + b * x)
        slack = size * (ones * (1 - p) - zeros * p)
        bend = size * (ones + zeros) * p * (1 - p)
        gradient = np.array([slack.sum(), (slack * x).sum() - SHRINK * (b - 1.0)])
        h = np.array([[bend.sum(), (bend * x).sum()], [(bend * x).sum(), (bend * x * x).sum()]])
        step = np.linalg.solve(h + np.diag([1e-6, SHRINK]), gradient)
        a, b = a + float(np.clip(step[0], -3, 3)), b + float(np.clip(step[1], -3, 3))
        b = min(max(b, 0.01), STEEPEST)
    return a, b


def _logistic(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -36.0, 36.0))), np.float64)
