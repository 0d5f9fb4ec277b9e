# SPDX-License-Identifier: Apache-2.0
"""A label whose rows fall into two groups that the rows of other labels do not fall into."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.distributions import beta_cdf
from datapipe.stages.poisoning._content import Content
from datapipe.stages.poisoning._matched_filter import HALVES, Evidence, Filters
from datapipe.stages.poisoning._pairs import HIDDEN
from datapipe.stages.poisoning._refined import Trigger
from datapipe.stages.poisoning._windows import ONE_LABEL

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TWO_GROUPS = "two groups"
MOSTLY_VOUCHED = 0.5
"""Share of rows that neighbours vouch for, beyond which they may be a kind of their label."""
FEWEST_LABELS = 5
"""With fewer labels the others do not tell how far groups part by nature."""
LEAST_SPREAD = 0.1
"""How much the logarithm of a parting varies between labels, at the very least."""


def group_test(content: Content, filters: Filters) -> list[Evidence]:
    """For each label: do its rows part further than those of other labels do?

    This sees a pattern on images that keep their true label. How far the two groups part along the
    direction in which a label spreads most is held against the other labels by the prediction
    interval of its logarithm. A class may have two kinds by nature, too.
    """
    axes = [filters.widest(k) for k in range(content.classes)]
    logs = np.log(np.maximum([a.parted for a in axes], 1e-3))
    return [
        Evidence(
            k,
            axes[k].group.size,
            int((content.labels == k).sum()),
            _p_value(logs, k),
            axes[k].group,
            TWO_GROUPS,
            content,
        )
        for k in range(content.classes)
    ]


def _p_value(logs: Floats, place: int) -> float:
    """Chance that one more label parts as far as this one, by Student's prediction interval."""
    others = np.delete(logs, place)
    others = others[np.isfinite(others)]
    if others.size < FEWEST_LABELS - 1 or not np.isfinite(logs[place]):
        return 1.0
    freedom = others.size - 1
    spread = max(float(others.std(ddof=1)), LEAST_SPREAD) * np.sqrt(1.0 + 1.0 / others.size)
    t = float((logs[place] - others.mean()) / spread)
    if t <= 0:
        return 1.0
    return 0.5 * beta_cdf(freedom / (freedom + t * t), 0.5 * freedom, 0.5)


def may_be_natural(trigger: Trigger) -> bool:
    """Whether rows may be a kind of their label: of two groups, or alike and mostly vouched for.

    Where a border, say, sets most images of a class apart, the others resemble another class. Only
    a pattern of pixels on several kinds is none of one label, however many rows hold it.
    """
    if trigger.evidence.test in (TWO_GROUPS, HIDDEN):
        return True
    alike = trigger.evidence.view.view or trigger.evidence.test in (ONE_LABEL, HALVES)
    return alike and trigger.vouched > MOSTLY_VOUCHED
