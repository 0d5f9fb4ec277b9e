# SPDX-License-Identifier: Apache-2.0
"""How often how many kinds occur, in one pass and bounded memory.

Kept are the kinds whose hash is smallest, with exact counts: which kinds they are has nothing to
do with how often they occur, so that their counts are a fair sample of all counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datapipe.features.text import mixed

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

MOST_KINDS = 1 << 17
FULL = 2.0**64
SALT = np.uint64(0xD1B5_4A32_D192_ED03)


@dataclass
class Sketch:
    """Counts of a fair sample of kinds.

    Args:
        most: Kinds that are kept.

    References:
        Gibbons, 2001, Distinct sampling for highly-accurate answers to distinct values queries.
    """

    most: int = MOST_KINDS
    hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    counts: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    bound: float = FULL
    tokens: int = 0

    def add(self, hashes: Hashes) -> None:
        """Count some tokens."""
        self.tokens += hashes.size
        spread = mixed(hashes ^ SALT)
        if self.bound < FULL:
            spread = spread[spread < np.uint64(int(self.bound))]
        kinds, times = np.unique(spread, return_counts=True)
        every = np.concatenate([self.hashes, kinds])
        both = np.concatenate([self.counts, times.astype(np.int64)])
        self.hashes, place = np.unique(every, return_inverse=True)
        self.counts = np.bincount(place, both, minlength=self.hashes.size).astype(np.int64)
        if self.hashes.size > self.most:
            self.bound = float(self.hashes[self.most])
            self.hashes, self.counts = self.hashes[: self.most], self.counts[: self.most]

    @property
    def share(self) -> float:
        """Share of all kinds that is kept."""
        return self.bound / FULL

    @property
    def kinds(self) -> float:
        """How many kinds there are; exact while all are kept."""
        return self.hashes.size / self.share

    def occurring(self, times: int) -> float:
        """How many kinds occur so often."""
        return int((self.counts == times).sum()) / self.share
