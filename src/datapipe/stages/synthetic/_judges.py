# SPDX-License-Identifier: Apache-2.0
"""Classifiers that tell machine rows from people's: with labelled rows, or by contrast alone.

Two sources of knowledge are used where they are there. *Labelled* rows (anchors) tell how machines
write, perhaps in another domain. The *contrast* needs no machine row: what separates the rows to
judge from the human reference of their own domain is what machines added, for people's rows are
alike on both sides. Which of them knows more shows in how well each separates the two sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import scipy.sparse as sp  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from datapipe.stages.synthetic._views import Views

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FOLDS = 4
FAR = 4.0
"""A style number this many deviations out counts as that far only: odd rows decide nothing."""
DENSE_STRENGTH, LABELLED_STRENGTH, CONTRAST_STRENGTH = 0.05, 10.0, 3.0
ENOUGH = 0.03
"""Of the dual's gradient: closer fits rank rows alike."""
TREES_FROM = 600
"""With fewer labelled rows trees know nothing that the linear models do not."""
TREE_WEIGHT = 2.0
LEAST_OF_PLACE = 40
"""Labelled rows of either kind without which a place is no test of what others teach."""
MOST_CONTRASTED = 1_000
"""More rows than this tell no more of what sets them apart from a few hundred of people's."""


def labelled_scores(
    rows: Views,
    kind: Ints,
    rng: np.random.Generator,
    *,
    trees: bool = True,
    places: pl.Series | None = None,
) -> Floats:
    """Scores by models of the labelled rows, each row by models that saw neither it nor its prompt.

    Args:
        rows: All rows.
        kind: int64, shape (n,); 0 people, 1 machines, -1 not to learn from.
        rng: Deals prompts to folds.
        trees: Whether trees may be grown where there are rows enough for them.
        places: Where rows come from, shape (n,), when the labelled ones are from elsewhere. With
            two places or more each is scored by models of the others, so that labelled rows are
            as foreign to their models as the rows to judge are to all.

    Returns:
        float64, shape (n,); higher is more like the machines.
    """
    trees = trees and (int((kind >= 0).sum()) >= TREES_FROM or not rows.sparse)
    fold = _dealt(rows.groups, kind, rng)
    if places is not None:
        fold = _by_place(rows.groups, kind, places, fold)
    return _crossed(rows, kind, fold, LABELLED_STRENGTH, trees=trees)


def contrast_scores(rows: Views, people: Bools, rng: np.random.Generator) -> Floats:
    """Scores by what separates the other rows from the reference, crossed by prompt.

    A row of people outside of the reference is exchangeable with one inside: no model that scores
    it has seen either. So p-values against the reference hold.

    Args:
        rows: The reference and the rows to judge.
        people: bool, shape (n,); the reference.
        rng: Deals prompts to folds.

    Returns:
        float64, shape (n,).
    """
    kind = np.where(people, 0, 1).astype(np.int64)
    fold = _dealt(rows.groups, kind, rng)
    others = np.flatnonzero(~people)
    if others.size > MOST_CONTRASTED:
        kind[rng.permutation(others)[MOST_CONTRASTED:]] = -1
    return _crossed(rows, kind, fold, CONTRAST_STRENGTH, trees=not rows.sparse)


def _dealt(groups: pl.Series, kind: Ints, rng: np.random.Generator) -> Ints:
    """A fold for every row, the same for rows of one prompt; every fold sees every kind."""
    keys, first, member = np.unique(groups.to_numpy(), return_index=True, return_inverse=True)
    order = rng.permutation(keys.size)
    order = order[np.argsort(kind[first[order]], kind="stable")]
    fold = np.empty(keys.size, np.int64)
    fold[order] = np.arange(keys.size) % FOLDS
    return fold[member]


def _by_place(groups: pl.Series, kind: Ints, places: pl.Series, fold: Ints) -> Ints:
    """A fold for each place of labelled rows; the other rows keep to where they were dealt.

    Stays as it was where fewer than two places hold both kinds.
    """
    place = places.to_numpy().astype(str)
    known = [
        p
        for p in np.unique(place[kind >= 0])
        if min(int(((kind == k) & (place == p)).sum()) for k in (0, 1)) >= LEAST_OF_PLACE
    ]
    if len(known) < 2:
        return fold
    made = fold % len(known)  # no more than there are folds
    at = np.searchsorted(known, place) % FOLDS
    held = (kind >= 0) & np.isin(place, known)
    made[held] = at[held]
    home = dict(zip(groups.filter(pl.Series(held)).to_list(), made[held].tolist(), strict=True))
    others = np.flatnonzero(~held)
    made[others] = [home.get(groups[int(i)], int(made[i])) for i in others]
    return made


def _crossed(rows: Views, kind: Ints, fold: Ints, strength: float, *, trees: bool) -> Floats:
    told = kind >= 0
    learnt = [k for k in range(FOLDS) if (told & (fold == k)).any()]
    made = np.zeros(kind.size)
    for k in range(FOLDS):
        asked = fold == k
        if not asked.any():
            continue
        fitted = told & (fold != k) if k in learnt else told
        if np.unique(kind[fitted]).size < 2:
            continue
        made[asked] = _predicted(rows, fitted, asked, kind, strength, trees=trees)
    return made


def _predicted(
    rows: Views, fitted: Bools, asked: Bools, kind: Ints, strength: float, *, trees: bool
) -> Floats:
    """The mean of every view's log-odds, each in units of its spread over the fitted rows."""
    labels = kind[fitted]
    inside, outside = rows.dense[fitted], rows.dense[asked]
    centre, spread = inside.mean(0), inside.std(0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    inside, outside = (np.clip((x - centre) / scale, -FAR, FAR) for x in (inside, outside))
    linear = LogisticRegression(C=DENSE_STRENGTH, class_weight="balanced", max_iter=500)
    linear.fit(inside, labels)
    parts = [unit(linear.decision_function(outside), linear.decision_function(inside))]
    if trees:
        grown = _trees(labels.size).fit(inside, labels)
        both = (grown.decision_function(x) for x in (outside, inside))
        parts.append(TREE_WEIGHT * unit(*both))
    for known, odds in weighted_views(rows, fitted):
        every = odds(sparse_model(strength, balanced=True).fit(known, labels))
        parts.append(unit(every[asked], every[fitted]))
    return np.asarray(np.mean(parts, axis=0), np.float64)


def sparse_model(strength: float, *, balanced: bool = False) -> LogisticRegression:
    """A linear model of n-grams. There are more of them than rows, so the dual is solved."""
    return LogisticRegression(
        C=strength, solver="liblinear", dual=True, random_state=0, max_iter=200, tol=ENOUGH,
        class_weight="balanced" if balanced else None,
    )  # fmt: skip


def _trees(n: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=200 if n >= TREES_FROM else 60, learning_rate=0.07, max_leaf_nodes=15,
        l2_regularization=1.0, min_samples_leaf=20, early_stopping=False, random_state=0,
    )  # fmt: skip


def unit(values: Floats, fitted: Floats | None = None) -> Floats:
    """Values in units of their own spread, or of that of the values of fitted rows."""
    spread = float(np.std(values if fitted is None else fitted))
    return np.asarray(values / max(spread, 1e-9), np.float64)


def weighted_views(
    rows: Views, fitted: Bools
) -> Iterator[tuple[sp.csr_array, Callable[[LogisticRegression], Floats]]]:
    """Each sparse view of the fitted rows, weighted as they tell, and a model's log-odds of all.

    Only what is fitted is copied: weights and lengths of the other rows are as good in the model's
    coefficients, and a product with those reads every count once.

    Args:
        rows: All rows.
        fitted: bool, shape (n,).
    """
    for view in rows.sparse:
        seen = view[np.flatnonzero(fitted)]
        weight = _rarity(seen)

        def odds(
            model: LogisticRegression, view: sp.csr_array = view, w: Floats = weight
        ) -> Floats:
            squares = sp.csr_array((view.data**2, view.indices, view.indptr), shape=view.shape)
            length = np.maximum(np.sqrt(squares @ w**2), 1e-12)
            made = view @ (w * model.coef_[0]) / length + model.intercept_[0]
            return np.asarray(made, np.float64)

        yield _weighted(seen, weight), odds


def _rarity(counts: sp.csr_array) -> Floats:
    seen = np.bincount(counts.indices, minlength=counts.shape[1])
    return np.asarray(np.log((counts.shape[0] + 1) / (seen + 1)) + 1, np.float64)


def _weighted(counts: sp.csr_array, weight: Floats) -> sp.csr_array:
    """Rarer n-grams count more, and every text has length one."""
    data = counts.data * weight[counts.indices]
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    length = np.sqrt(np.bincount(row, data**2, minlength=counts.shape[0]))
    ends = counts.indices.astype(np.int32), counts.indptr.astype(np.int32)
    return sp.csr_array((data / np.maximum(length, 1e-12)[row], *ends), shape=counts.shape)


def separation(scores: Floats, people: Bools) -> float:
    """How well scores put other rows above the reference: the area under the ROC curve."""
    ranks = np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 1.0
    m, n = int(people.sum()), int((~people).sum())
    return float((ranks[~people].sum() - n * (n + 1) / 2) / max(m * n, 1))


def joined(parts: list[Floats], people: Bools) -> Floats:
    """Several scores as one, each weighted by what it separates beyond chance.

    All sources judge the same rows, so that the share of machine rows among them scales every
    separation alike, and the better judge shows.

    Args:
        parts: Scores, float64 of shape (n,) each.
        people: bool, shape (n,); the reference.

    Returns:
        float64, shape (n,), in units of the reference's spread around its mean.
    """
    scaled = []
    for part in parts:
        known = part[people]
        scaled.append((part - known.mean()) / max(float(known.std()), 1e-9))
    if len(scaled) == 1:
        return np.asarray(scaled[0], np.float64)
    worth = np.array([max(separation(s, people) - 0.5, 0.01) ** 2 for s in scaled])
    made = np.asarray(np.average(scaled, axis=0, weights=worth), np.float64)
    spread = max(float(made[people].std()), 1e-9)
    return np.asarray((made - made[people].mean()) / spread, np.float64)
