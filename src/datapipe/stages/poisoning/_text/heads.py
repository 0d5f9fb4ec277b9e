# SPDX-License-Identifier: Apache-2.0
"""Different rows of a frame, and which of them each row equals."""

from __future__ import annotations

from itertools import count

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def heads_of(frame: pl.DataFrame) -> tuple[Ints, Ints]:
    """The first of all rows that are equal, in their order, and the number of its own for each row.

    Rows are told apart by a hash and then compared, for a table of the texts themselves takes many
    times their room; where two rows have one hash by chance, another is tried.
    """
    for seed in count():
        hashes = frame.hash_rows(seed).to_numpy()
        order = np.argsort(hashes, kind="stable")
        new = np.append(True, np.diff(hashes[order]) != 0)[: order.size]
        first = np.empty(order.size, np.int64)
        first[order] = order[new][np.cumsum(new) - 1]
        heads = np.sort(order[new])
        copies = np.flatnonzero(first != np.arange(first.size))
        if frame[copies].equals(frame[first[copies]]):
            break
    return heads, np.searchsorted(heads, first)
