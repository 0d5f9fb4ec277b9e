# SPDX-License-Identifier: Apache-2.0
"""A cheap classifier for out-of-fold prediction: Gaussian kernels centred on a sample of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.crossfit import Floats, Ints, Predict

Features = NDArray[np.float32]

LANDMARKS = 2000
"""Most rows that a kernel is centred on; more rows than this are summarised by a sample."""
MOST_FITTED = 50_000
"""Of more rows a random sample is fitted on, less a fold: twenty rows a weight settle it."""
MOST_KEPT = 8
"""Sums over folds that are kept, each as large as the square of the landmarks."""
WIDTHS = (1.0, 4.0, 16.0)
"""Multiples of the squared width among which rows that are left out choose."""
WIDTH_ROWS = 400
"""Rows whose neighbours tell the kernel's width."""


def kernel_predictor(
    features: Features,
    labels: Ints,
    classes: int,
    rng: np.random.Generator,
    *,
    landmarks: int = LANDMARKS,
    widths: Sequence[float] = (1.0,),
) -> Predict:
    """A Gaussian-kernel least-squares classifier over fixed features.

    Squared error does not chase single wrong labels as likelihood does, and the inverse of one
    matrix answers for every fold and for every choice of rows that are left out: with A the inverse
    of kernel plus ridge over all rows, the rows S left out of a fit are predicted by
    y_S - inv(A_SS) (A y)_S. The kernel's width is the usual distance to the tenth neighbour, or a
    multiple of it that predicts left-out rows better: of two columns the tenth neighbour is so near
    that a few rows of one label make a model sure where labels are a matter of chance. Beyond
    `LANDMARKS` rows a random sample carries the kernel (Nystroem), the same for all fits, for which
    rows it holds says nothing of their labels: the sums over all rows less those left out make a
    fit, in time linear in the rows up to `MOST_FITTED`, beyond it in those that are predicted.

    Args:
        features: float32, shape (n, d).
        labels: int, shape (n,), in 0..classes-1.
        classes: K.
        rng: Draws the landmarks.
        landmarks: Most rows that the kernel is centred on, >= 1; fewer are faster.
        widths: Multiples of the squared width, > 0; the one with the least squared error on rows
            left out one by one is taken.

    Returns:
        A function that fits on some rows and predicts others.

    Example:
        >>> x = np.array([[0.0], [0.1], [5.0], [5.1]] * 5, np.float32)
        >>> y = np.array([0, 0, 1, 1] * 5)
        >>> predict = kernel_predictor(x, y, 2, np.random.default_rng(0))
        >>> predict(np.arange(16), np.arange(16, 20)).argmax(1).tolist()
        [0, 0, 1, 1]

    References:
        Rifkin, Yeo & Poggio, 2003, Regularized least-squares classification (leaving rows out);
        Allen, 1974, The relationship between variable selection and data augmentation (PRESS);
        Williams & Seeger, 2001, Using the Nystroem method to speed up kernel machines.
    """
    order = rng.permutation(len(features))
    width = _usual_width(features[order[: 2 * landmarks]])
    if len(widths) > 1:
        some = order[:landmarks]
        width = _best_width(features[some], np.eye(classes)[labels[some]], width, widths)
    if len(features) <= landmarks:
        return _LeftOut(features, labels, classes, width)

    targets = np.eye(classes)[labels]
    return _Nystroem(features, targets, width=width, order=order, marks=landmarks)


def _usual_width(sample: Features) -> float:
    """The median squared distance to the tenth neighbour, over the sample's first rows."""
    if len(sample) < 2:
        return 1.0
    near = min(10, len(sample) - 1)  # a row itself is the nearest
    apart = np.partition(_squares(sample[:WIDTH_ROWS], sample), near, axis=1)[:, near]
    width = float(np.median(np.sqrt(apart)) ** 2)
    return width if width > 0 else 1.0


def _best_width(sample: Features, targets: Floats, usual: float, widths: Sequence[float]) -> float:
    """The width that predicts rows best from the others; copies would answer for each other."""
    alone = np.unique(sample, axis=0, return_index=True)[1]
    squares = _squares(sample[alone], sample[alone])
    centred = targets[alone] - targets[alone].mean(0)
    misses = []
    for times in widths:
        kernel = np.exp(squares / (-2.0 * usual * times)).astype(np.float64)
        kernel[np.diag_indices_from(kernel)] += 1.0
        inverse = _inverse(kernel)
        misses.append(float(((inverse @ centred / inverse.diagonal()[:, None]) ** 2).sum()))
    return usual * widths[int(np.argmin(misses))]


class _LeftOut:
    """Kernel least squares on some rows, for rows that were left out, from one inverse of all."""

    def __init__(self, features: Features, labels: Ints, classes: int, width: float) -> None:
        self._targets = np.eye(classes)[labels]
        self._features, self._width = features, width
        self._inverse: Floats | None = None

    def __call__(self, fitted: Ints, asked: Ints) -> Floats:
        if self._inverse is None:
            kernel = _gaussian(self._features, self._features, self._width)
            kernel[np.diag_indices_from(kernel)] += 1.0
            self._inverse = _inverse(kernel)
            self._weights = self._inverse @ self._targets
            self._ones = self._inverse.sum(1)
        mean = self._targets[fitted].mean(0)
        left = np.ones(len(self._targets), bool)
        left[fitted] = False
        if left[asked].all():
            out = np.flatnonzero(left)
            weights = self._weights[out] - self._ones[out, None] * mean
            block = self._inverse[np.ix_(out, out)]
            made = self._targets[out] - _solved(block, weights)
            return _as_shares(made[np.searchsorted(out, asked)])
        centre = self._features[fitted]
        square = _gaussian(centre, centre, self._width) + np.eye(fitted.size)
        fresh = _solved(square, self._targets[fitted] - mean)
        return _as_shares(_gaussian(self._features[asked], centre, self._width) @ fresh + mean)


SMALL = 192
"""Up to so many rows a matrix is inverted as a whole."""


def _inverse(square: Floats) -> Floats:
    """The inverse of a positive definite matrix, by halves: products are what a core does best."""
    n = len(square)
    if n <= SMALL:
        return np.asarray(np.linalg.inv(square), np.float64)
    half = n // 2
    first = _inverse(square[:half, :half])
    across = first @ square[:half, half:]
    second = _inverse(square[half:, half:] - _even(square[half:, :half], across))
    corner = -across @ second
    made = np.empty_like(square)
    made[:half, :half] = first - _even(corner, across.T)
    made[:half, half:], made[half:, :half] = corner, corner.T
    made[half:, half:] = second
    return made


def _even(left: Floats, right: Floats) -> Floats:
    """A product that is known to be symmetric: three of its quarters are computed."""
    half = len(left) // 2
    made = np.empty((len(left), len(left)))
    made[:half, :half] = left[:half] @ right[:, :half]
    made[half:] = left[half:] @ right
    made[:half, half:] = made[half:, :half].T
    return made


class _Nystroem:
    """Kernel least squares on the columns of landmarks, from sums over rows that are kept.

    What a fit needs of its rows are sums over them. The sum over all rows less that over a fold
    serves a fit, and less those over a few rows one without these: each row is summed twice,
    however many fits there are.
    """

    def __init__(
        self, features: Features, targets: Floats, *, width: float, order: Ints, marks: int
    ) -> None:
        self._features, self._width, self._order = features, width, order
        self._targets = np.column_stack([targets, np.ones(len(targets))])
        self._centre = features[order[:marks]]
        self._drawn = np.sort(order[:MOST_FITTED])
        self._known: dict[bytes, Floats] = {}

    def __call__(self, fitted: Ints, asked: Ints) -> Floats:
        rows, sums = self._summed(fitted, asked)
        marks, mean = len(self._centre), self._targets[rows, :-1].mean(0)
        square = sums[:, :marks] + _gaussian(self._centre, self._centre, self._width)
        square[np.diag_indices_from(square)] += 1e-6
        weights = _solved(square, sums[:, marks:-1] - np.outer(sums[:, -1], mean))
        made = np.empty((asked.size, mean.size))
        for start in range(0, asked.size, LANDMARKS):
            block = self._features[asked[start : start + LANDMARKS]]
            kernel = _gaussian(block, self._centre, self._width)
            made[start : start + LANDMARKS] = _as_shares(kernel @ weights + mean)
        return made

    def _summed(self, fitted: Ints, asked: Ints) -> tuple[Ints, Floats]:
        """The rows of a fit and the sums over them, by whichever way sums over fewer rows."""
        chosen = np.zeros(len(self._features), np.bool_)
        chosen[fitted] = True
        held = chosen[self._drawn]
        rows, left = self._drawn[held], self._drawn[~held]
        if 2 * rows.size < min(fitted.size, MOST_FITTED):
            rows = self._order[chosen[self._order]][:MOST_FITTED]
            return rows, self._over(rows)
        if left.size >= rows.size:
            return rows, self._over(rows)
        chosen[:] = False
        chosen[asked] = True
        fold = chosen[left]
        whole = self._kept(self._drawn) - self._kept(left[fold])
        return rows, whole - self._over(left[~fold])

    def _kept(self, rows: Ints) -> Floats:
        """Sums that are asked for again: over all rows, and over each fold."""
        key = hashlib.sha256(rows.tobytes()).digest()
        found = self._known.get(key)
        if found is None:
            found = self._over(rows)
            if len(self._known) < MOST_KEPT:
                self._known[key] = found
        return found

    def _over(self, rows: Ints) -> Floats:
        """Of the kernel's columns, their products with each other, the classes and one."""
        marks = len(self._centre)
        sums = np.zeros((marks, marks + self._targets.shape[1]))
        for start in range(0, rows.size, LANDMARKS):
            some = rows[start : start + LANDMARKS]
            block = _gaussian(self._features[some], self._centre, self._width)
            sums[:, :marks] += block.T @ block
            sums[:, marks:] += block.T @ self._targets[some]
        return sums


def _solved(square: Floats, right: Floats) -> Floats:
    return np.asarray(np.linalg.solve(square, right), np.float64)


def _gaussian(left: Features, right: Features, width: float) -> Floats:
    kernel: Floats = np.exp(_squares(left, right) / (-2.0 * width)).astype(np.float64)
    return kernel


def _squares(left: Features, right: Features) -> Features:
    """Squared distances of all pairs."""
    middle = right.mean(0)
    a, b = left - middle, right - middle
    squares: Features = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2.0 * (a @ b.T)
    return np.maximum(squares, 0.0)


def _as_shares(scores: Floats) -> Floats:
    """Least-squares scores as probabilities; the floor leaves every class a chance."""
    made = np.maximum(scores, 0.0) + 0.005
    shares: Floats = made / made.sum(1, keepdims=True)
    return shares
