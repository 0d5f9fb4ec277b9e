# SPDX-License-Identifier: Apache-2.0
"""Words that came into texts along with a pattern, and are found in hardly any others.

A planted sentence, date or style brings more words than one pattern holds. Where texts have none of
them by nature, the model learns from other planted rows that they go with the label, and the rest
of each row then seems to explain it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datapipe.stages.poisoning._text.bag import Bag
from datapipe.stages.poisoning._text.candidates import Candidates
from datapipe.stages.poisoning._text.grams import spread

MOSTLY = 0.5
"""The share of a word's texts that hold the pattern from which on it came along."""


def with_company(bag: Bag, found: Candidates, g: int) -> Candidates:
    """A candidate alone, which owns all words that mostly stand in its texts, in two or more."""
    row = found.rows(g)
    counts = np.diff(bag.ends)[row]
    inside = np.bincount(bag.words[spread(bag.ends[row], counts)], minlength=bag.idf.size)
    mine = (inside >= 2) & (inside > MOSTLY * np.bincount(bag.words, minlength=bag.idf.size))
    mine[found.owns(g)] = True
    one = found.only(np.array([g]))
    owned = np.flatnonzero(mine).astype(one.owned.dtype)
    return replace(one, own=np.array([0, owned.size]), owned=owned)
