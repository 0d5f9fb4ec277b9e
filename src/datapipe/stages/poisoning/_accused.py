# SPDX-License-Identifier: Apache-2.0
"""Which labels a network treats as no other: by trusted rows, or by the other labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import beta_binomial_tail
from datapipe.stages.poisoning._unseen import Scores

TAIL = 0.1
"""Share of honest rows that count as far out; an alarm takes more of them than chance explains."""
BEYOND = 0.5
"""Share of poisoned rows that lie far out: 40 patched digits raised half of the alarms, 80 all."""
FEWEST_TRUSTED = 19
"""Labels with fewer trusted rows than this cannot be judged: none would lie beyond both tails."""
TINY = 1e-9
FALSE_SHARE = 0.2
"""Of the rows flagged, about this share may be honest."""
STRENGTH, LEAST_RATE, MOST_RATE = 8.0, 0.03, 0.5
"""How many rows the other labels' rate is worth, and within which bounds it is believed."""
SIDES = {"outlying": False, "group": True, "loss": True}
"""The scores, and whether both of their ends tell."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Half:
    """Rows that one network scored, and the trusted rows that it scored beside them."""

    place: Ints
    scores: Scores
    trusted: Scores


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The p-value of every label and what told it, and of every row a score and whether it counts.

    `least` is how many poisoned rows of a usual label would have raised the alarm; labels that are
    `untested` have too few trusted rows.
    """

    p_values: Floats
    by: list[str]
    score: Floats
    flags: Bools
    least: int
    row_p_values: Floats | None = None
    untested: tuple[int, ...] = ()


def by_trust(halves: list[Half], labels: Ints, trusted: Ints, alpha: float) -> Verdicts:
    """Hold every label's rows against trusted rows of it, which no network has seen either.

    A row's p-value is its rank among trusted rows. Of n honest rows, how many lie beyond the rank
    `TAIL` is beta-binomial whatever the scores are; labels, scores and halves are corrected for.
    """
    classes = int(labels.max()) + 1
    size = np.bincount(trusted, minlength=classes)
    judged = np.flatnonzero(size >= FEWEST_TRUSTED)
    tests = len(SIDES) * max(judged.size, 1) * len(halves)
    found, told = np.ones(classes), [""] * classes
    ranks = np.ones((len(SIDES), labels.size))
    best: dict[int, int] = {}
    for half in halves:
        for number, (name, both) in enumerate(SIDES.items()):
            asked, known = getattr(half.scores, name), getattr(half.trusted, name)
            for k in judged:
                mine, like = labels[half.place] == k, known[trusted == k]
                p = _ranked(asked[mine], like, both=both)
                ranks[number, half.place[mine]] = p
                p_value = min(1.0, _too_many(p, like.size, both=both) * tests)
                if p_value < found[k]:
                    found[k], told[k], best[int(k)] = p_value, name, number
    flags = np.zeros(labels.size, bool)
    for k in np.flatnonzero(found <= alpha):
        mine = np.flatnonzero(labels == k)
        flags[mine] = _surplus(ranks[best[int(k)], mine])
    row_p = np.minimum(1.0, ranks.min(0) * len(SIDES))
    usual = int(np.median(np.bincount(labels, minlength=classes))) // len(halves)
    like = int(np.median(size[judged])) if judged.size else 0
    least = len(halves) * round(_least_beyond(usual, like, alpha / tests) / BEYOND)
    untested = tuple(np.setdiff1d(np.arange(classes), judged).tolist())
    return Verdicts(found, told, -np.log(row_p), flags, least, row_p, untested)


def by_others(halves: list[Half], labels: Ints, shares: Floats, alpha: float) -> Verdicts:
    """Hold labels against each other: rows whose features deny the label that a network grants.

    A network that has not seen such a row gives it its label for natural reasons, too; how often is
    read from the other labels, of which the worst is left out, and believed as far as eight rows.
    """
    classes, n = shares.shape[1], labels.size
    final = np.zeros(n)
    for half in halves:
        final[half.place] = half.scores.final
    own, granted = shares[np.arange(n), labels], np.exp(-final)
    denied = (shares.argmax(1) != labels) & (shares.max(1) > 2.0 * own)
    obeyed = denied & (granted > 0.5)
    size, hits = (np.bincount(labels[m], minlength=classes) for m in (denied, obeyed))
    found = np.ones(classes)
    least = n
    for k in range(classes):
        others = np.delete(np.arange(classes), k)
        others = np.delete(others, ((hits + 1) / (size + 2))[others].argmax())
        rate = (hits[others].sum() + 1.0) / (size[others].sum() + 2.0)
        rate = float(np.clip(rate, LEAST_RATE, MOST_RATE))
        a, b = STRENGTH * rate, STRENGTH * (1.0 - rate)
        found[k] = min(1.0, classes * beta_binomial_tail(int(hits[k]), int(size[k]), a, b))
        more = next(
            (m for m in range(1, n) if beta_binomial_tail(m, m + 2, a, b) * classes <= alpha), n
        )
        least = max(more, 0) if k == 0 else max(least, more)
    flags = obeyed & (found <= alpha)[labels]
    return Verdicts(found, ["obeyed"] * classes, (1.0 - own) * granted, flags, least)


def _ranked(asked: Floats, known: Floats, *, both: bool) -> Floats:
    """Conformal p-values: the rank of each among the known, of both ends where both tell."""
    order = np.sort(known)
    above = known.size - np.searchsorted(order, asked, side="left")
    below = np.searchsorted(order, asked, side="right")
    rank = np.minimum(above, below) if both else above
    return np.asarray(np.minimum(1.0, (1 + both) * (rank + 1.0) / (known.size + 1.0)), np.float64)


def _beyond(known: int, *, both: bool) -> int:
    """How many of known + 1 rows in random order lie beyond `TAIL`."""
    ends = 1 + both
    return ends * int(TAIL * (known + 1) / ends + TINY)


def _too_many(p: Floats, known: int, *, both: bool) -> float:
    """P(as many of these rows lie beyond the tail), were they honest."""
    rank = _beyond(known, both=both)
    if rank < 1 or not p.size:
        return 1.0
    hits = int((p <= TAIL + TINY).sum())
    return beta_binomial_tail(hits, p.size, rank, known + 1 - rank)


def _least_beyond(n: int, known: int, level: float) -> int:
    """How many more of n rows than honest ones must lie beyond the tail for an alarm."""
    rank = _beyond(known, both=False)
    if rank < 1:
        return n
    usual = round(TAIL * n)
    for more in range(1, n - usual + 1):
        if beta_binomial_tail(usual + more, n, rank, known + 1 - rank) <= level:
            return more
    return n


def _surplus(p: Floats) -> Bools:
    """The rows farthest out, as many as keep the share of honest ones among them low."""
    order = np.argsort(p, kind="stable")
    honest = p[order] * p.size / np.arange(1, p.size + 1)
    good = np.flatnonzero(honest <= FALSE_SHARE)
    flags = np.zeros(p.size, bool)
    if good.size:
        flags[order[: good[-1] + 1]] = True
    return flags
