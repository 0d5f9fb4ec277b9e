# SPDX-License-Identifier: Apache-2.0
"""Machines that depart from people in different ways, taught apart and listened to by turns.

A model told to be helpful writes longer words than people do, one that only goes on with a text
writes shorter ones: taught together they cancel, and neither is known in a domain that nobody
labelled. So makers whose departures point different ways form two families with a judge each. Which
judge to believe shows in the rows themselves: where machines of its family are among them, its
scores have two heaps, which a low kurtosis tells.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from datapipe.stages.synthetic._judges import FAR, separation, sparse_model, unit, weighted_views
from datapipe.stages.synthetic._views import Views

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LEAST_ROWS = 40
"""Rows of a maker without which nobody knows how it departs from people."""
APART = 0.5
"""Makers whose departures from people have a lower cosine are of two families."""
DENSE_STRENGTH, SPARSE_STRENGTH = 0.003, 3.0
"""Weak on purpose: what few rows insist on does not hold in another domain."""
FLATTEST, ROUNDEST, TRUST = -1.2, -0.2, 4.0
"""Excess kurtosis of two equal heaps far apart, of what is one heap for all anybody can tell, and
how steeply belief grows from the second to the first."""
WHOLE, SURE = 2.0, 0.4
"""Trust in the judge of all makers before scores are seen, and how far under `ROUNDEST` its
kurtosis lies where it needs no other."""


def families(dense: Floats, kind: Ints, makers: pl.Series, places: pl.Series) -> Ints:
    """Which family made each row.

    Args:
        dense: float64, shape (n, d); style numbers.
        kind: int64, shape (n,); 0 people, 1 machines, -1 neither.
        makers: Names of generators, shape (n,).
        places: Where rows come from, shape (n,); people there are what a maker departs from.

    Returns:
        int64, shape (n,); 0 or 1 for machines of a family, else -1. All are -1 unless two makers
        depart from people in different ways.
    """
    name, place = makers.to_numpy().astype(str), places.to_numpy().astype(str)
    names = [m for m in np.unique(name[kind == 1]) if (name[kind == 1] == m).sum() >= LEAST_ROWS]
    found = np.full(kind.size, -1, np.int64)
    ways = [_departure(dense, (kind == 1) & (name == m), kind == 0, place) for m in names]
    if len(ways) < 2:
        return found
    alike = np.array(ways) @ np.array(ways).T
    first, second = np.unravel_index(int(alike.argmin()), alike.shape)
    if alike[first, second] >= APART:
        return found
    for row, maker in zip(alike, names, strict=True):
        found[(kind == 1) & (name == maker)] = int(row[second] > row[first])
    return found


def _departure(dense: Floats, made: Bools, people: Bools, place: NDArray[np.str_]) -> Floats:
    """The direction from people to a maker, people of the same place where there are any."""
    total = np.zeros(dense.shape[1])
    for where in np.unique(place[made]):
        near = people & (place == where)
        near = near if near.sum() >= LEAST_ROWS else people
        spread = dense[near].std(0)
        step = dense[made & (place == where)].mean(0) - dense[near].mean(0)
        total += np.clip(step / np.where(spread > 1e-9, spread, 1.0), -2.0, 2.0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-9), np.float64)


def family_scores(rows: Views, kind: Ints, family: Ints, places: pl.Series, asked: Bools) -> Floats:
    """Scores of the rows asked for by the judge of one family.

    Every view is weighted by what it separates in places that it has not seen. Labelled rows that
    share a prompt with a row asked for are left out.

    Args:
        rows: All rows.
        kind: int64, shape (n,); 0 people, 1 machines of this family or another, -1 neither.
        family: int64, shape (n,); 1 for machines of this family.
        places: Where rows come from, shape (n,).
        asked: bool, shape (n,).

    Returns:
        float64, shape (asked,); higher is more like the family. Zeros when too little is left.
    """
    place = places.to_numpy().astype(str)
    apart = ~rows.groups.is_in(rows.groups.filter(pl.Series(asked)).unique().implode()).to_numpy()
    machines = (kind == 1) & (family == 1) & apart
    people = (kind == 0) & apart & np.isin(place, np.unique(place[machines]))
    made = np.zeros(int(asked.sum()))
    if min(int(machines.sum()), int(people.sum())) < LEAST_ROWS:
        return made
    fitted = machines | people
    worth = _worth(rows, fitted, machines, place)
    scores = _views_scores(rows, fitted, machines, place, asked)
    for value, score in zip(worth, scores, strict=True):
        made += value * score
    return made


def _worth(rows: Views, fitted: Bools, machines: Bools, place: NDArray[np.str_]) -> Floats:
    """What each view separates in a place that its model has not seen; ones with a single place."""
    held = [p for p in np.unique(place[fitted]) if _both(fitted & (place == p), machines)]
    found = []
    for where in held:
        here = fitted & (place == where)
        rest = fitted & (place != where)
        if _both(rest, machines):
            told = _views_scores(rows, rest, machines, place, here)
            found.append([separation(s, ~machines[here]) - 0.5 for s in told])
    if not found:
        return np.ones(1 + len(rows.sparse))
    return np.asarray(np.maximum(np.mean(found, axis=0), 0.01) ** 2, np.float64)


def _both(rows: Bools, machines: Bools) -> bool:
    return min(int((rows & machines).sum()), int((rows & ~machines).sum())) >= LEAST_ROWS


def _views_scores(
    rows: Views, fitted: Bools, machines: Bools, place: NDArray[np.str_], asked: Bools
) -> list[Floats]:
    """Log-odds of every view, each in units of its spread over the rows asked for."""
    labels, weight = machines[fitted].astype(np.int64), _balanced(machines, place, fitted)
    inside, outside = rows.dense[fitted], rows.dense[asked]
    centre, spread = inside.mean(0), inside.std(0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    inside, outside = (np.clip((x - centre) / scale, -FAR, FAR) for x in (inside, outside))
    linear = LogisticRegression(C=DENSE_STRENGTH, max_iter=500).fit(inside, labels, weight)
    made = [unit(linear.decision_function(outside))]
    for known, odds in weighted_views(rows, fitted):
        model = sparse_model(SPARSE_STRENGTH).fit(known, labels, weight)
        made.append(unit(odds(model)[asked]))
    return made


def _balanced(machines: Bools, place: NDArray[np.str_], fitted: Bools) -> Floats:
    """Weights under which every place counts alike on either side, and the two sides alike."""
    side, where = machines[fitted], place[fitted]
    weight = np.ones(side.size)
    for which in (False, True):
        of = side == which
        for p in np.unique(where[of]):
            here = of & (where == p)
            weight[here] = 1.0 / here.sum()
        weight[of] *= side.size / 2 / weight[of].sum()
    return weight


def heard(whole: list[Floats], of_families: list[Floats]) -> Floats:
    """Several scores of the same rows as one: those in two heaps are listened to.

    Args:
        whole: Scores of judges that learnt from all makers, float64 of shape (n,) each; where they
            make two heaps, the rows are of a domain they know, and nobody else is asked.
        of_families: Scores of judges of one family, the same shape; may be empty.

    Returns:
        float64, shape (n,).
    """
    alone = unit(np.mean([_standard(p) for p in whole], axis=0))
    if not of_families:
        return alone
    scaled = np.array([alone, *(_standard(p) for p in of_families)])
    flat = np.clip((scaled**4).mean(1) - 3.0, FLATTEST, ROUNDEST)
    trust = np.where(np.arange(len(scaled)) == 0, WHOLE, 1.0) * (scaled.std(1) > 0.5)
    believed = np.maximum(trust * np.exp(-TRUST * flat), 1e-9)
    sure = min(1.0, (ROUNDEST - float(flat[0])) / SURE)
    mixed = unit(np.average(scaled, axis=0, weights=believed))
    return np.asarray(sure * alone + (1.0 - sure) * mixed, np.float64)


def _standard(scores: Floats) -> Floats:
    return unit(scores - scores.mean())
