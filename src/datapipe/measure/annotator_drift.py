# SPDX-License-Identifier: Apache-2.0
"""Annotators whose skill falls off, and annotators who do not look: told from their answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError

Floats = NDArray[np.float64]

LAGS = (12, 15, 18, 22, 27, 33, 40, 48, 57, 68, 80, 92, 104, 116, 128, 140, 152,
        176, 215, 258, 310, 372)  # fmt: skip
"""How many of the last answers are held against all before them."""
RISE = 3.0
"""How much likelier an error became, as odds, in the fall that is looked for. Larger falls are told
as soon; were it left open, it would have to beat the best of all falls that chance makes."""
FEWEST_BEFORE = 80
"""Answers that must lie before, to tell the skill as it was."""
SMOOTHING = 1.5
"""Wrong answers added to those before: a spotless beginning is no proof of a spotless skill."""
LEAST_SKILL = 1e-3
SKILLS = (0.6, 0.8, 0.9, 0.95, 0.98)
BOUNDS = (12.3, 11.6, 10.8, 9.8, 8.5)
"""Evidence, in nats, that fewer than 1 of 5,000 steady annotators of such skill pass within 1,000
answers (simulated)."""


@dataclass(frozen=True)
class Drift:
    """Whether somebody's skill fell.

    Args:
        alarm: Answer at which it was noticed, counted from 0; -1 for none.
        since: Answer from which on it is likely lower; -1 for none.
        before: Skill before, in [0, 1].
        after: Skill since then; NaN for none.
        statistic: The evidence, in nats, where it came closest to its bound or first passed it.
        bound: What it had to pass.

    Example:
        >>> drift(np.ones(500)).alarm
        -1
    """

    alarm: int
    since: int
    before: float
    after: float
    statistic: float
    bound: float


def drift(right: Floats) -> Drift:
    """Look for a fall in skill along one annotator's answers, in the order they were given.

    At every answer the last ones are held against all before them: the likelihood of the skill as
    it was and, since then, of errors whose odds are `RISE` times as high, over that of a single
    skill. Nothing is presumed of the skill as it was, nor of when it fell. The bound keeps false
    alarms over a whole history to one annotator in 5,000; the surer an annotator was, the less
    evidence chance makes, and the lower it lies.

    Args:
        right: float in [0, 1], shape (n,): whether, or how likely, each answer was right.

    Returns:
        What was found.

    Raises:
        DeclarationError: A value is not a chance.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> fell = np.r_[rng.random(500) < 0.9, rng.random(300) < 0.6].astype(float)
        >>> 500 <= drift(fell).alarm < 650
        True

    References:
        Siegmund & Venkatraman, 1995, Using the generalized likelihood ratio statistic for
        sequential detection of a change-point.
    """
    if right.size and (not np.isfinite(right).all() or right.min() < 0 or right.max() > 1):
        raise DeclarationError("answers must be right with a chance between 0 and 1")
    n = right.size
    mean = float(right.mean()) if n else math.nan
    more = math.log(max(n, 1000) / 1000)
    total = np.r_[0.0, np.cumsum(right)]
    over, bounds, lag = np.full(n + 1, -np.inf), np.zeros(n + 1), np.zeros(n + 1, np.int64)
    for m in LAGS:
        now = np.arange(m + FEWEST_BEFORE, n + 1)
        late, early = total[now] - total[now - m], total[now - m]
        before = (now - m).astype(np.float64) + SMOOTHING
        skill = np.maximum(early / before, LEAST_SKILL)
        lower = skill / (skill + RISE * (1.0 - skill))
        gain = early * np.log(skill) + (before - early) * np.log(1.0 - skill)
        gain += late * np.log(lower) + (m - late) * np.log(1.0 - lower)
        gain -= _log_likelihood(late + early, before + m)
        bound = np.interp(skill, SKILLS, BOUNDS) + more
        better = gain - bound > over[now]
        at = now[better]
        over[at], bounds[at], lag[at] = (gain - bound)[better], bound[better], m
    since = np.arange(n + 1) - lag
    passed = np.flatnonzero(over > 0)
    if not passed.size:
        at = int(over.argmax())
        told = max(0.0, float(over[at] + bounds[at])) if lag[at] else 0.0
        return Drift(-1, -1, mean, math.nan, told, float(bounds[at]) if lag[at] else BOUNDS[0])
    at = int(passed[0])
    start = int(since[at])
    after = float(right[start:at].mean())
    told = float(over[at] + bounds[at])
    return Drift(at - 1, start, float(right[:start].mean()), after, told, float(bounds[at]))


def _log_likelihood(hits: Floats, n: Floats | NDArray[np.int64] | int) -> Floats:
    """Of counts under their own rate."""
    rate = np.clip(hits / n, 1e-12, 1 - 1e-12)
    made: Floats = hits * np.log(rate) + (n - hits) * np.log(1 - rate)
    return made


def knowledge(confusion: Floats, prior: Floats) -> Floats:
    """How much an annotator's answer tells of the class, as a share of what there is to tell.

    0 is a spammer: answers that do not depend on the item, whatever habit they follow.

    Args:
        confusion: float64, shape (w, K, K): chance of an answer (last axis) given the class.
        prior: float64, shape (K,): how common each class is.

    Returns:
        float64 in [0, 1], shape (w,).

    Example:
        >>> both = np.array([np.eye(2), np.full((2, 2), 0.5)])
        >>> knowledge(both, np.array([0.5, 0.5])).round(3).tolist()
        [1.0, 0.0]

    References:
        Raykar & Yu, 2012, Eliminating spammers and ranking annotators for crowdsourced labeling.
    """
    joint = confusion * prior[None, :, None]
    said = joint.sum(1, keepdims=True)
    tiny = 1e-300
    told = (joint * (np.log(joint + tiny) - np.log(said * prior[None, :, None] + tiny))).sum((1, 2))
    whole = -float((prior * np.log(prior + tiny)).sum())
    made: Floats = np.clip(told / max(whole, 1e-12), 0.0, 1.0)
    return made
