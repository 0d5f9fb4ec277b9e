# SPDX-License-Identifier: Apache-2.0
"""How many texts a word must be put into to be told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._tails import raised
from datapipe.stages.poisoning._text.alike import MOST_COMPARED
from datapipe.stages.poisoning._text.candidates import LEAST_ROWS
from datapipe.stages.poisoning._text.shares import NATURAL_ODD, typical_log_share
from datapipe.stages.poisoning._text.word_model import Model, class_shares

Ints = NDArray[np.int64]


def fewest_detectable(model: Model, labels: Ints, candidates: int, alpha: float) -> int:
    """How many rows of other labels an inserted word needs, for the label that hides it best."""
    shares = class_shares(model)
    bar = np.log(alpha) + typical_log_share(candidates, shares.shape[1])
    least = LEAST_ROWS
    for label in range(shares.shape[1]):
        others = shares[labels != label, label]
        if others.size:
            least = max(least, int(np.ceil(bar / np.log(raised(others, NATURAL_ODD)).mean())))
    return least


def fewest_tellable(model: Model, labels: Ints, candidates: int, alpha: float) -> int:
    """How many rows an inserted word needs to be told at all, with luck and the label for it."""
    shares = class_shares(model)
    bar = np.log(alpha) + typical_log_share(candidates, shares.shape[1])
    fewest = [LEAST_ROWS + MOST_COMPARED]
    for label in range(shares.shape[1]):
        others = shares[labels != label, label]
        if others.size:
            each = -np.log(raised(others, NATURAL_ODD))
            mean, spread = float(each.mean()), float(each.std())
            # n * mean + sqrt(n) * spread reaches the bar
            root = (np.sqrt(spread**2 - 4.0 * mean * bar) - spread) / (2.0 * mean)
            fewest.append(int(np.ceil(root**2)))
    return max(LEAST_ROWS, min(fewest))
