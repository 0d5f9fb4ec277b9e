# SPDX-License-Identifier: Apache-2.0
"""GLAD: the ability of every annotator and the difficulty of every item, learnt together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError
from datapipe.measure.crowd import Answers, Consensus, majority
from datapipe.measure.crowd_models import normalised

Floats = NDArray[np.float64]

STEPS = 4
"""Newton steps of an M-step."""
FARTHEST = 4.0
"""Abilities and log easinesses stay within this distance of their prior mean, 1."""


def glad(answers: Answers, *, iterations: int = 30, tolerance: float = 1e-5) -> Consensus:
    """Ability of annotators times easiness of items gives the chance of a right answer.

    Abilities and log easinesses have normal priors around 1; each M-step takes a few Newton steps
    with the diagonal of the information, so that no learning rate has to be chosen.

    Args:
        answers: The answers.
        iterations: Most rounds, >= 1.
        tolerance: Stops when the log likelihood of an answer moves by less.

    Returns:
        The consensus; `skill` is each annotator's chance of a right answer on an item of average
        easiness.

    Raises:
        DeclarationError: `iterations` is below 1.

    Example:
        >>> item, who = np.repeat(np.arange(99), 3), np.tile(np.arange(3), 99)
        >>> rng = np.random.default_rng(0)
        >>> said = np.where(rng.random(297) < 0.9, item % 2, 1 - item % 2)
        >>> made = glad(Answers(item, who, said, 99, 3, 2))
        >>> float((made.posterior.argmax(1) == np.arange(99) % 2).mean()) > 0.9
        True

    References:
        Whitehill et al., 2009, Whose vote should count more: optimal integration of labels from
        labelers of unknown expertise.
    """
    if iterations < 1:
        raise DeclarationError(f"iterations={iterations} must be at least 1")
    k, item, who = answers.n_classes, answers.item, answers.annotator
    voice = np.ones(item.size) if answers.weight is None else answers.weight
    ability, ease = np.ones(answers.n_annotators), np.ones(answers.n_items)
    posterior = majority(answers).posterior
    last, done, prior = -np.inf, 0, np.zeros(k)
    while done < iterations:
        done += 1
        right = posterior[item, answers.label]
        for _ in range(STEPS):
            scale = np.exp(ease)[item]
            gap, bend = _residual(ability[who] * scale, right, voice)
            ability = _moved(ability, who, gap * scale, bend * scale**2)
            product = ability[who] * scale
            gap, bend = _residual(product, right, voice)
            ease = _moved(ease, item, gap * product, bend * product**2)
        chance = _logistic(ability[who] * np.exp(ease)[item])
        wrong = np.log((1.0 - chance) / max(1, k - 1))
        gain = (np.log(chance) - wrong) * voice
        common = posterior.sum(0) + 1.0
        prior = np.log(common / common.sum())
        every = np.bincount(item, wrong * voice, minlength=answers.n_items)
        posterior, likelihood = normalised(answers.tally(gain) + every[:, None] + prior)
        posterior = answers.clamped(posterior)
        if abs(likelihood - last) / max(item.size, 1) < tolerance:
            break
        last = likelihood
    skill = _logistic(ability * float(np.exp(ease).mean()))
    return Consensus(posterior, None, np.exp(prior), done, likelihood, skill)


def _residual(logit: Floats, right: Floats, voice: Floats) -> tuple[Floats, Floats]:
    """How far answers were better than foretold, and how fast that changes."""
    chance = _logistic(logit)
    return voice * (right - chance), voice * chance * (1 - chance)


def _moved(values: Floats, owner: NDArray[np.int64], push: Floats, curve: Floats) -> Floats:
    """One Newton step of each owner's value, kept near its prior mean."""
    gradient = np.bincount(owner, push, minlength=values.size) - (values - 1.0)
    bend = np.bincount(owner, curve, minlength=values.size) + 1.0
    return np.clip(values + gradient / bend, 1.0 - FARTHEST, 1.0 + FARTHEST)


def _logistic(x: Floats) -> Floats:
    made: Floats = np.clip(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))), 1e-9, 1 - 1e-9)
    return made
