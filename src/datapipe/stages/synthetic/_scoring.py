# SPDX-License-Identifier: Apache-2.0
"""Scores of anchors and unknown rows, each by a model that has not seen the row or its prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID, Roles
from datapipe.features.tables import features_of
from datapipe.stages.synthetic._style import prompt_groups, style, window, word_counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FOLDS = 4
STRENGTH = 0.02
"""Inverse penalty: anchors are few, and a confident score would be confidently wrong elsewhere."""
MIN_WORDS = 18
"""Shorter texts have no style to speak of."""


@dataclass(frozen=True)
class Material:
    """Rows of several origins as numbers, one under the other.

    Args:
        values: float64, shape (n, d).
        usable: bool, shape (n,); False for texts that are too short and rows with gaps.
        groups: Strings of shape (n,); rows made from one prompt share one.
    """

    values: Floats
    usable: Bools
    groups: pl.Series


def material(frame: pl.DataFrame, roles: Roles) -> Material:
    """The features of rows of all origins, computed together so that they share one scale.

    Args:
        frame: The columns that features come from.
        roles: What they are for.

    Returns:
        The rows in order.
    """
    kept = Roles(
        {r: roles.all(r) for r in ("text", "image") if set(roles.all(r)) & {*frame.columns}}
    )
    if "text" in kept and "image" not in kept:
        texts = frame[kept.one("text")]
        values = style(window(texts))
        return Material(values, word_counts(texts) >= MIN_WORDS, prompt_groups(texts))
    ids = pl.Series(ROW_ID, np.arange(frame.height), dtype=pl.UInt64)
    made = features_of(Dataset(frame.with_columns(ids).lazy(), kept))
    alone = pl.Series(np.arange(frame.height)).cast(pl.String)
    return Material(made.values.astype(np.float64), ~made.incomplete, alone)


def feature_columns(data: Dataset) -> list[str]:
    """The columns that the features come from: a text, pictures, or the columns without a role."""
    if "text" in data.roles and "image" not in data.roles:
        return [data.roles.one("text")]
    return list(data.roles.all("image")) or data.features


def cross_scores(values: Floats, groups: pl.Series, kind: Ints, rng: np.random.Generator) -> Floats:
    """A score in [0, 1] for every row; higher is more like the anchors.

    Args:
        values: float64, shape (n, d).
        groups: Strings of shape (n,); rows of one group are never on both sides of a split.
        kind: int64, shape (n,); 0 reference, 1 anchor, 2 unknown.
        rng: Deals the prompts to folds.

    Returns:
        float64, shape (n,).
    """
    keys, first, member = np.unique(groups.to_numpy(), return_index=True, return_inverse=True)
    order = rng.permutation(keys.size)
    order = order[np.argsort(kind[first[order]], kind="stable")]  # every fold sees every kind
    fold = np.empty(keys.size, np.int64)
    fold[order] = np.arange(keys.size) % FOLDS
    mine = fold[member]
    scores = np.zeros(kind.size)
    for k in range(FOLDS):
        fitted, asked = (kind < 2) & (mine != k), mine == k
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=500)
        )
        model.fit(values[fitted], kind[fitted])
        if asked.any():
            scores[asked] = model.predict_proba(values[asked])[:, 1]
    return scores
