# SPDX-License-Identifier: Apache-2.0
"""A filter for the inputs of a model, whose rate of false alarms its user sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.neighbours import nearest

NEIGHBOURS = 5
"""How many of the nearest known rows an input is held against."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Views:
    """Rows as they enter a network, and as they arrive at its last layer.

    Args:
        before: float32, shape (n, d).
        behind: float32, shape (n, h); the logits where the network is the user's own.

    Example:
        >>> Views(np.zeros((2, 4), np.float32), np.zeros((2, 3), np.float32)).behind.shape
        (2, 3)
    """

    before: Floats
    behind: Floats

    def of(self, index: NDArray[np.int64]) -> Views:
        """Some of the rows.

        Args:
            index: Row numbers, shape (k,).

        Returns:
            Their views.

        Example:
            >>> Views(np.eye(3, dtype=np.float32), np.eye(3)).of(np.array([1])).before.tolist()
            [[0.0, 1.0, 0.0]]
        """
        return Views(self.before[index], self.behind[index])


@dataclass(frozen=True, eq=False)
class InputFilter:
    """Tells how strange an input is to a model, as a conformal p-value.

    An input's score is its mean distance to the nearest known rows, before the network or behind
    it, whichever is longer in units of what is usual. Its p-value is its rank among rows that took
    no part in the training: inputs like these fall below `a` in at most a share `a` of cases,
    whatever the network and the data (split conformal prediction).

    Args:
        known: Rows that the model learnt from.
        usual: The usual distance before the network, and behind it.
        calibration: float32, shape (m,): scores of rows that it did not learn from.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> seen = lambda n: Views(*rng.normal(size=(2, n, 3)).astype(np.float32))
        >>> fitted = InputFilter.fitted(seen(300), seen(99))
        >>> far = Views(np.full((1, 3), 9.0, np.float32), np.zeros((1, 3), np.float32))
        >>> fitted.p_values(far).tolist()
        [0.01]

    References:
        Vovk, Gammerman & Shafer, 2005, Algorithmic learning in a random world;
        Bates et al., 2023, Testing for outliers with conformal p-values.
    """

    known: Views
    usual: tuple[float, float]
    calibration: Floats

    @classmethod
    def fitted(cls, known: Views, apart: Views) -> InputFilter:
        """Calibrate a filter.

        Args:
            known: Rows that the model learnt from, at least two.
            apart: Rows that it did not learn from, like the inputs to come.

        Returns:
            The filter.

        Example:
            >>> some = Views(np.eye(9, dtype=np.float32), np.eye(9, dtype=np.float32))
            >>> InputFilter.fitted(some, some).calibration.shape
            (9,)
        """
        bare = cls(known, (_usual(known.before), _usual(known.behind)), np.zeros(0, np.float32))
        return cls(known, bare.usual, np.sort(bare.scores(apart)))

    def scores(self, asked: Views) -> Floats:
        """How far rows lie from what is known.

        Args:
            asked: The rows.

        Returns:
            float32, shape (n,), in units of what is usual; higher is stranger.

        Example:
            >>> some = Views(np.eye(9, dtype=np.float32), np.eye(9, dtype=np.float32))
            >>> made = InputFilter.fitted(some, some)
            >>> bool((made.scores(some) < 1).all())
            True
        """
        sides = ((self.known.before, asked.before), (self.known.behind, asked.behind))
        far = [
            nearest(known, rows, k=NEIGHBOURS).distances.mean(1) / usual
            for (known, rows), usual in zip(sides, self.usual, strict=True)
        ]
        return np.asarray(np.maximum(*far), np.float32)

    def p_values(self, asked: Views) -> NDArray[np.float64]:
        """The chance that an input like the calibration rows is as strange.

        Args:
            asked: The rows.

        Returns:
            float64, shape (n,), in (0, 1]: at least 1 / (m + 1) for m rows of calibration.

        Example:
            >>> some = Views(np.eye(9, dtype=np.float32), np.eye(9, dtype=np.float32))
            >>> made = InputFilter.fitted(some, some)
            >>> made.p_values(some).tolist()[:2]
            [1.0, 1.0]
        """
        below = np.searchsorted(self.calibration, self.scores(asked), side="left")
        m = self.calibration.size
        return np.asarray((m - below + 1) / (m + 1), np.float64)


def _usual(side: Floats) -> float:
    """The usual distance of a known row to its neighbours."""
    far = nearest(side, k=min(NEIGHBOURS, len(side) - 1)).distances.mean(1)
    return max(float(np.median(far)), 1e-9)
