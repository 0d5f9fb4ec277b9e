# SPDX-License-Identifier: Apache-2.0
"""What several seeds say together, where one of them may be far off."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from datapipe.core.estimate import Estimate


def median(values: Sequence[float], *, level: float = 0.95) -> Estimate:
    """A median between two of the values themselves: nothing is assumed of how they are spread.

    Where so few values cannot reach the level their range is given, with the level that it has.

    Args:
        values: Two or more numbers.
        level: Coverage of the interval, in (0, 1).

    References:
        Thompson, 1936, On confidence ranges for the median.
    """
    x = np.sort(np.asarray(values, np.float64))
    n = x.size
    place, log_chance = 0, -n * math.log(2)  # that no value lies on one side of the median
    beyond = math.exp(log_chance)
    while place < n // 2:
        log_chance += math.log((n - place) / (place + 1))
        further = beyond + math.exp(log_chance)
        if 2 * further > 1 - level:
            break
        place, beyond = place + 1, further
    reached = min(level, 1 - 2 * beyond)
    low, high = float(x[place]), float(x[n - 1 - place])
    return Estimate(float(np.median(x)), low, high, n, "order statistics", reached)
