# SPDX-License-Identifier: Apache-2.0
"""Rows seen from several sides: dense numbers, and for texts three kinds of hashed n-grams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.sparse as sp  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID, Roles
from datapipe.features.tables import features_of
from datapipe.measure.neighbours import nearest
from datapipe.stages.synthetic._ngrams import coded
from datapipe.stages.synthetic._style import prompt_groups, style, window, word_counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BATCH_ROWS = 1_024
"""Texts coded at a time: bounds what a pass holds beside its result."""
NEIGHBOURS = 5
FOLDS = 4
LEAST_PEOPLE = 40
MOST_JOINT = 256
"""With more columns than this they are taken as independent."""
RIDGE = 0.1
"""Added to a reference's covariance, in units of its mean variance."""


@dataclass(frozen=True)
class Views:
    """Rows as numbers, one view beside the other.

    Args:
        dense: float64, shape (n, d).
        sparse: Sparse matrices of shape (n, buckets); none for tables and pictures.
        usable: bool, shape (n,); False for rows that cannot be judged.
        groups: Strings of shape (n,); rows made from one prompt share one.
        texts: The windows of the texts; None for tables and pictures.
    """

    dense: Floats
    sparse: tuple[sp.csr_array, ...]
    usable: Bools
    groups: pl.Series
    texts: pl.Series | None = None

    def of(self, kept: Bools) -> Views:
        """Some of the rows, in order."""
        return Views(
            self.dense[kept],
            tuple(m[np.flatnonzero(kept)] for m in self.sparse),
            self.usable[kept],
            self.groups.filter(pl.Series(kept)),
            None if self.texts is None else self.texts.filter(pl.Series(kept)),
        )


def views(frame: pl.DataFrame, roles: Roles, *, least_words: int, people: Bools) -> Views:
    """The views of rows of all origins, made together so that they share one scale.

    Args:
        frame: The columns that features come from.
        roles: What they are for.
        least_words: Shorter texts cannot be judged.
        people: bool, shape (n,); the rows of the human reference.

    Returns:
        The rows in order.
    """
    kept = Roles(
        {r: roles.all(r) for r in ("text", "image") if set(roles.all(r)) & {*frame.columns}}
    )
    if "text" in kept and "image" not in kept:
        return _texts(frame[kept.one("text")], least_words)
    ids = pl.Series(ROW_ID, np.arange(frame.height), dtype=pl.UInt64)
    made = features_of(Dataset(frame.with_columns(ids).lazy(), kept))
    usable = ~made.incomplete
    dense = made.values.astype(np.float64)
    beside = _beside_people(dense, people & usable)
    alone = pl.Series(np.arange(frame.height)).cast(pl.String)
    return Views(np.column_stack([dense, beside]), (), usable, alone)


def _texts(texts: pl.Series, least_words: int) -> Views:
    parts = [texts.slice(i, BATCH_ROWS) for i in range(0, max(1, len(texts)), BATCH_ROWS)]
    seen = [window(part) for part in parts]
    kinds = [list(codes) for codes in zip(*map(coded, seen), strict=True)]
    stacked = tuple(_stacked(codes) for codes in kinds)
    return Views(
        np.concatenate([style(part) for part in seen]),
        stacked,
        word_counts(texts) >= least_words,
        prompt_groups(texts),
        pl.concat(seen),
    )


def _stacked(codes: list[sp.csr_array]) -> sp.csr_array:
    """The batches of one view as one; they are let go of, so that no two views are held twice."""
    made = sp.csr_array(sp.vstack(codes, format="csr"))
    codes.clear()
    return made


def _beside_people(dense: Floats, people: Bools) -> Floats:
    """How likely each row is under a normal fit of the reference, and how near its neighbours.

    A row of the reference must not know itself, or people outside of it would look odd: every row
    is held against the part of the reference that lies in other folds.
    """
    n, d = dense.shape
    made = np.zeros((n, 2))
    if int(people.sum()) < LEAST_PEOPLE or d == 0:
        return made
    rank = np.zeros(n, np.int64)
    for side in (people, ~people):
        rank[side] = np.arange(int(side.sum())) % FOLDS
    for fold in range(FOLDS):
        known, asked = dense[people & (rank != fold)], rank == fold
        centre, spread = known.mean(0), known.std(0)
        scale = np.where(spread > 0, spread, 1.0)
        near, far = (known - centre) / scale, (dense[asked] - centre) / scale
        shape = np.cov(near.T).reshape(d, d) if d <= MOST_JOINT else np.eye(d)
        made[asked, 0] = np.log1p(np.einsum("ij,ij->i", far @ _inverse(shape), far))
        found = nearest(near.astype(np.float32), far.astype(np.float32), k=NEIGHBOURS)
        made[asked, 1] = np.log1p(found.distances.mean(1))
    return made


def _inverse(shape: Floats) -> Floats:
    width = shape.shape[0]
    held = shape + RIDGE * max(float(np.trace(shape)) / width, 1e-9) * np.eye(width)
    return np.asarray(np.linalg.inv(held), np.float64)
