# SPDX-License-Identifier: Apache-2.0
"""How often how many kinds occur, in one pass and bounded memory.

Kept are the kinds whose hash is smallest, with exact counts: which kinds they are has nothing to
do with how often they occur, so that their counts are a fair sample of all counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
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


@dataclass
class Reservoir:
    """A fair sample of different texts, in one pass: those whose salted hash is smallest.

    Args:
        most: Texts that are kept.
        rng: Salts the hashes, so that no text is kept by nature.

    References:
        Gibbons, 2001, Distinct sampling for highly-accurate answers to distinct values queries.
    """

    most: int
    rng: np.random.Generator
    _kept: pl.DataFrame = field(init=False)
    _salt: np.uint64 = field(init=False)
    _seen: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._salt = self.rng.integers(1 << 63, dtype=np.uint64)
        self._kept = pl.DataFrame(schema={"at": pl.Int64, "rank": pl.UInt64, "text": pl.String})

    def add(self, texts: pl.Series, hashes: Hashes) -> None:
        """Look at some texts; equal hashes are one text."""
        at = np.arange(self._seen, self._seen + len(texts))
        self._seen += len(texts)
        new = pl.DataFrame({"at": at, "rank": mixed(hashes ^ self._salt), "text": texts})
        every = pl.concat([self._kept, new]).unique("rank", keep="first", maintain_order=True)
        self._kept = every.bottom_k(self.most, by="rank") if every.height > self.most else every

    def texts(self) -> pl.Series:
        """The texts kept, in the order they came."""
        return self._kept.sort("at")["text"].alias("")
