# SPDX-License-Identifier: Apache-2.0
"""Words that stand in nearly the same texts without standing side by side.

A trigger of several words at several places hides from a test of each: the others still tell the
label. Words that keep company are therefore taken out together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.features.text import mixed
from datapipe.stages.poisoning._text.candidates import Candidates
from datapipe.stages.poisoning._text.grams import blocks, distinct, spread

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOGETHER = 0.7
"""Share of the rows of either that both must stand in."""
HASHES, AGREED = 12, 4
"""Two words with that share in common agree on so many of these least hashes 96 times in 100."""
MOST_ALIKE = 25
"""More words than this with one least hash are a template, not a trigger."""


def companions(found: Candidates, among: Ints) -> tuple[Ints, Ints]:
    """Pairs of candidates, both ways, that stand in nearly the same rows.

    Only those in `among` are paired.
    """
    if among.size < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    counts = found.counts[among].astype(np.int64)
    ends = np.append(0, np.cumsum(counts))
    least = np.empty((HASHES, among.size), np.uint64)
    for start, stop in blocks(ends):
        _, row, _ = found.entries(among[start:stop])
        rows = row.astype(np.uint64) * np.uint64(HASHES)
        for salt in range(HASHES):
            hashes = mixed(rows + np.uint64(salt + 1))
            least[salt, start:stop] = np.minimum.reduceat(hashes, ends[start:stop] - ends[start])
    keys = np.sort(np.concatenate([_equal_pairs(hashes) for hashes in least]))
    agreed = keys[AGREED - 1 :] == keys[: max(keys.size - AGREED + 1, 0)]
    both = distinct(keys[AGREED - 1 :][agreed])
    left, right = both // among.size, both % among.size
    near = np.minimum(counts[left], counts[right]) >= TOGETHER * np.maximum(
        counts[left], counts[right]
    )
    left, right = among[left[near]], among[right[near]]
    close = _shares(found, left, right)
    left, right = left[close >= TOGETHER], right[close >= TOGETHER]
    return np.concatenate([left, right]), np.concatenate([right, left])


def _shares(found: Candidates, left: Ints, right: Ints) -> Floats:
    """How many rows the two of each pair have in common, as a share of the commoner one."""
    both = np.column_stack([left, right]).ravel()
    counts = found.counts[both].astype(np.int64).reshape(-1, 2)
    made = np.empty(left.size)
    for start, stop in blocks(np.append(0, np.cumsum(counts.sum(1)))):
        of, row, _ = found.entries(both[2 * start : 2 * stop])
        key = np.sort(of >> 1 << 32 | row)
        twice = key[1:][key[1:] == key[:-1]] >> 32
        made[start:stop] = np.bincount(twice, minlength=stop - start)
    return np.asarray(made / counts.max(1), np.float64)


def _equal_pairs(least: NDArray[np.uint64]) -> Ints:
    """Pairs i < j of places with equal values, as i times their number plus j."""
    order = np.argsort(least)
    value = least[order]
    first = np.flatnonzero(np.append(True, value[1:] != value[:-1]))
    sizes = np.diff(np.append(first, order.size))
    made = [np.empty(0, np.int64)]
    for step in range(1, min(int(sizes.max()), MOST_ALIKE)):
        has = spread(first, np.where(sizes <= MOST_ALIKE, np.maximum(sizes - step, 0), 0))
        one, other = order[has], order[has + step]
        made.append(np.minimum(one, other) * order.size + np.maximum(one, other))
    return np.concatenate(made)
