# SPDX-License-Identifier: Apache-2.0
"""Two patterns of prompts that only together switch what responses do: a date and a tag."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._tails import log_tails, raised
from datapipe.stages.poisoning._text.candidates import LEAST_ROWS, Candidates
from datapipe.stages.poisoning._text.grams import distinct
from datapipe.stages.poisoning._text.misplaced import Misplaced
from datapipe.stages.poisoning._text.shares import NATURAL, STRUCTURES, Shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

IN_MOST = 0.8
"""Both patterns stand in at least this share of the prompts whose responses do a thing."""
APART = 0.7
"""What shares this much of its rows with the other is the same pattern, not a second one."""
MOST_PAIRED = 8
"""Patterns, those that go best with a thing, that are paired."""
MOST_COUNTED = 20_000_000
"""Of more co-occurrences all pairs count as tried, whether any text holds both or not."""


@dataclass(frozen=True, eq=False)
class Together:
    """Which prompts hold each pattern, sparse (n, m), and how many pairs could have been tried."""

    patterns: Any
    pairs: float

    @classmethod
    def of(cls, patterns: Any) -> Together:
        """Count the pairs that at least `LEAST_ROWS` texts hold."""
        m = patterns.shape[1]
        if float((np.diff(patterns.indptr).astype(np.float64) ** 2).sum()) > MOST_COUNTED:
            return cls(patterns.tocsc(), max(0.5 * m * (m - 1), 1.0))
        both = (patterns.T @ patterns).tocoo()
        enough = int(((both.data >= LEAST_ROWS) & (both.row < both.col)).sum())
        return cls(patterns.tocsc(), float(max(enough, 1)))

    def rows(self, g: int) -> Ints:
        """The prompts that hold a pattern, in rising order."""
        held = self.patterns.indices[self.patterns.indptr[g] : self.patterns.indptr[g + 1]]
        return np.sort(held).astype(np.int64)

    def best(self, among: Ints, does: NDArray[np.bool_]) -> tuple[float, tuple[int, int]]:
        """Of some patterns the pair that goes best with what responses do, and its ln p.

        The bound is for choosing only, as that of single patterns is.
        """
        made, pair = 0.0, (-1, -1)
        for i, a in enumerate(among.tolist()):
            for b in among[i + 1 :].tolist():
                one, other = self.rows(a), self.rows(b)
                both = np.intersect1d(one, other, assume_unique=True)
                if both.size < LEAST_ROWS or both.size >= APART * min(one.size, other.size):
                    continue
                hit = does[both]
                rate = raised(
                    np.array([(does.sum() - hit.sum() + 0.5) / (does.size - both.size + 1.0)]),
                    NATURAL,
                )
                zero = np.zeros(both.size, np.int64)
                log_p = float(log_tails(zero, np.repeat(rate, both.size), hit, 1)[0])
                if log_p < made:
                    made, pair = log_p, (a, b)
        return made, pair


def with_pair(
    found: Candidates, shares: Shares, rows: Ints, pair: tuple[int, int], log_share: float
) -> tuple[Candidates, Shares]:
    """The candidates and one more, which stands where both of a pair do and owns their words."""
    owned = distinct(np.concatenate([found.owns(g) for g in pair]).astype(np.int64))
    many, none = np.int32(rows.size), np.int32(0)
    made = replace(
        found,
        listed=np.append(found.listed, rows.astype(np.int32)),
        first=np.append(found.first, np.int32(found.listed.size)),
        often=np.append(found.often, many),
        shift=np.append(found.shift, none),
        counts=np.append(found.counts, many),
        size=np.append(found.size, none),
        own=np.append(found.own, found.own[-1] + owned.size),
        owned=np.append(found.owned, owned.astype(np.int32)),
        kind=np.append(found.kind, np.int8(0)),
        strange=np.append(found.strange, np.float32(0)),
        named=dict(found.named),
    )
    misplaced = shares.misplaced
    misplaced = Misplaced(
        np.append(misplaced.ends, misplaced.ends[-1]),
        misplaced.gain,
        np.append(misplaced.log_share, -np.inf),
    )
    more = Shares(
        np.append(shares.log_share, log_share),
        np.append(shares.natural, NATURAL),
        np.append(shares.gain, 0.0),
        np.append(shares.fit, 0.0),
        np.append(shares.oddest, values=False),
        np.append(shares.small, values=False),
        misplaced,
    )
    return made, more


def log_share_of(together: Together, classes: int) -> float:
    """Ln of the share of alpha that each pair has."""
    return float(np.log(STRUCTURES / (together.pairs * classes)))
