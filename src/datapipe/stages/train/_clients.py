# SPDX-License-Identifier: Apache-2.0
"""Which training row belongs to which client, and which rows a client sees at which local step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.dataset import Dataset
from datapipe.errors import DataError

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Clients:
    """The training rows by client.

    `of_row` is int64 of shape (n,); `names` has a name per client; `split` says how it was made.
    """

    of_row: Ints
    names: tuple[str, ...]
    split: str

    @property
    def sizes(self) -> Ints:
        """Rows of each client, int64 of shape (clients,)."""
        return np.bincount(self.of_row, minlength=len(self.names))


def by_column(data: Dataset, columns: Sequence[str], rows: Ints) -> Clients:
    """One client for every value of some columns."""
    keys = data.frame(columns)[rows].select(
        pl.concat_str(pl.col(columns).cast(pl.String).fill_null(""), separator="/").alias("client")
    )["client"]
    names = keys.unique().sort()
    if len(names) < 2:
        raise DataError(
            f"{' and '.join(columns)} make one client: federated training needs at least two",
            code="DP-TRAIN-003",
            hint="name a column that tells clients apart with by=COLUMN",
        )
    places = pl.Series(range(len(names)), dtype=pl.Int64)
    of_row = keys.replace_strict(names, places, return_dtype=pl.Int64).to_numpy()
    return Clients(of_row, tuple(names), "+".join(columns))


def by_dirichlet(y: Ints, clients: int, alpha: float, rng: np.random.Generator) -> Clients:
    """Clients with uneven classes: each class is shared out by a draw from Dirichlet(alpha).

    References: Hsu, Qi & Brown, 2019, Measuring the effects of non-identical data distribution for
    federated visual classification.
    """
    of_row = np.zeros(len(y), np.int64)
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        ends = np.cumsum(rng.dirichlet(np.full(clients, alpha))) * len(rows)
        of_row[rows] = np.searchsorted(ends[:-1], np.arange(len(rows)), side="right")
    names = tuple(f"client-{k}" for k in range(clients))
    return Clients(of_row, names, f"dirichlet({alpha:g})")


def local_plan(
    of_row: Ints, participants: Ints, batch: int, epochs: int, rng: np.random.Generator
) -> Ints:
    """The row that each participant sees in each slot of each local step; -1 where there is none.

    Shape (participants, steps, batch). Clients with fewer rows get empty steps at the end, which
    change nothing, so that all can take their steps together.
    """
    last = max(of_row.max(initial=0), participants.max(initial=0))
    place = np.full(int(last) + 1, -1)
    place[participants] = np.arange(len(participants))
    rows = np.flatnonzero(place[of_row] >= 0)
    client = place[of_row[rows]]
    sizes = np.bincount(client, minlength=len(participants))
    steps = -(-sizes // batch)
    plan = np.full((len(participants), int(steps.max(initial=0)) * epochs, batch), -1, np.int64)
    for epoch in range(epochs):
        order = np.lexsort((rng.random(len(rows)), client))
        of = client[order]
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        plan[of, epoch * steps[of] + nth // batch, nth % batch] = rows[order]
    return plan
