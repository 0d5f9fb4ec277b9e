# SPDX-License-Identifier: Apache-2.0
"""Wrong boxes around objects: overlooked, badly located, of a swapped class; as cleanlab has them.

Boxes are corners (x1, y1, x2, y2) in pixels; the distance between centres counts beside the
overlap, so that coordinates in other units would be ranked differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

OVERLAP = 0.9
"""Weight of the overlap against the distance of centres in how alike two boxes are."""
REACH = 0.1
"""How fast likeness falls with the distance of centres, per pixel."""
LIKELY, SURE = 0.5, 0.95
"""Scores above which a predicted box is compared by its place, and by its existence or class."""
SAME_BOX = 0.95
"""Overlap from which two given boxes of two classes are one box with two labels."""
SHARPNESS = 0.1
"""Temperature of the mean over the boxes of an image: low, so that the worst counts most."""
SHARE = np.float32(0.25)
FACTOR = 0.8
"""A box is an issue when its quality is at most both shares of how well its class is found."""
STRICTNESS = np.linspace(0.5, 0.95, 10)
"""Overlaps at which it is measured how well a class is found."""
TINY = 1e-100


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of many images, one after the other.

    Args:
        image: int64, shape (m,), rising, in 0..n-1: whose box it is.
        kind: int64, shape (m,), in 0..K-1: the class.
        corners: float64, shape (m, 4): x1, y1, x2, y2.
        score: float64 in [0, 1], shape (m,): how sure a model is; ones for given boxes.

    Example:
        >>> Boxes(np.array([0]), np.array([1]), np.array([[0.0, 0, 9, 9]]), np.ones(1)).kind.size
        1
    """

    image: Ints
    kind: Ints
    corners: Floats
    score: Floats


@dataclass(frozen=True, eq=False)
class BoxIssues:
    """The quality in [0, 1] of every box in each respect, and which are issues.

    Args:
        overlooked: float64, shape (found,): of predicted boxes; 1 where it is no question.
        located: float64, shape (given,): of given boxes, whether they lie well.
        classed: float64, shape (given,): whether they have the right class.
        is_overlooked: bool, shape (found,).
        is_badly_located: bool, shape (given,).
        is_swapped: bool, shape (given,).
        likely: int64, shape (given,): the class of the sure predicted box of another class that is
            most like it; its own class where there is none.
        quality: float64, shape (n,): of each image.

    Example:
        >>> BoxIssues.__name__
        'BoxIssues'
    """

    overlooked: Floats
    located: Floats
    classed: Floats
    is_overlooked: Bools
    is_badly_located: Bools
    is_swapped: Bools
    likely: Ints
    quality: Floats


def box_issues(given: Boxes, found: Boxes, images: int, classes: int) -> BoxIssues:
    """Hold given boxes against predicted ones.

    A sure prediction where no box lies was overlooked; a given box whose class was predicted
    elsewhere nearby lies badly; a given box on a sure prediction of another class was swapped, and
    so was one of two that are the same box. Each is an issue where its quality is low for a class
    that is found as well as this one.

    Args:
        given: The labels.
        found: The predictions of a model that did not see these labels.
        images: How many images, n.
        classes: How many classes, K.

    Returns:
        Qualities and issues.

    Raises:
        DeclarationError: A box has no four finite corners in order, or a score lies outside [0, 1].

    Example:
        >>> box = np.array([[0.0, 0, 10, 10], [40, 40, 60, 60]])
        >>> found = Boxes(np.array([0, 0]), np.array([0, 1]), box, np.array([0.99, 0.98]))
        >>> given = Boxes(np.array([0]), np.array([0]), box[:1], np.ones(1))
        >>> made = box_issues(given, found, 1, 2)
        >>> (made.overlooked < 0.2).tolist(), made.located.tolist()
        ([False, True], [1.0])

    References:
        Tkachenko, Thyagarajan & Mueller, 2023, ObjectLab: automated diagnosis of mislabeled images
        in object detection data, arXiv:2309.00832.
    """
    for boxes in (given, found):
        _check(boxes)
    pairs = list(_pairs(given, found, images))
    alike = [s for _, _, _, s in pairs if s.size]
    least = min((float(s[s > 0].min(initial=1.0)) for s in alike), default=1.0)
    overlooked = np.full(found.kind.size, np.nan)
    located, classed = np.ones(given.kind.size), np.ones(given.kind.size)
    likely = given.kind.copy()
    for mine, theirs, overlap, likeness in pairs:
        kinds, others = given.kind[mine], found.kind[theirs]
        same = kinds[:, None] == others[None, :]
        score = found.score[theirs]
        if others.size:
            lone = (score >= SURE) & ~(overlap > 0).any(0)
            nearest = np.where(same, likeness, -1.0).max(0, initial=-1.0)
            near = np.where(nearest >= 0, nearest, least * (1.0 - score))
            overlooked[theirs] = np.where(lone, near, np.nan)
        if not kinds.size:
            continue
        if others.size:
            close = same & (score > LIKELY) & (overlap > 0)
            best = np.where(close, likeness, -1.0).max(1)
            located[mine] = np.where(best >= 0, best, 1.0)
            rival = np.where(~same & (score > SURE), likeness, -1.0)
            best = rival.max(1)
            classed[mine] = np.where(best >= 0, np.maximum(least, 1.0 - best), 1.0)
            likely[mine] = np.where(best >= 0, others[rival.argmax(1)], kinds)
        twice = _overlaps(given.corners[mine], given.corners[mine]) >= SAME_BOX
        twice &= kinds[:, None] != kinds[None, :]
        classed[mine] = np.where(twice.any(1), least, classed[mine])
    known = _well_found(given, found, [(m, t, o) for m, t, o, _ in pairs], classes)
    limit = known * SHARE * np.float32(FACTOR)
    parts = (
        _pooled(overlooked, found.image, images),
        _pooled(located, given.image, images),
        _pooled(classed, given.image, images),
    )
    quality = np.exp(sum(np.log(TINY + part) for part in parts) / 3.0)
    overlooked = np.where(np.isnan(overlooked), 1.0, overlooked)
    return BoxIssues(
        overlooked, located, classed,
        overlooked <= limit[found.kind], located <= limit[given.kind],
        classed <= limit[given.kind], likely, quality,
    )  # fmt: skip


def _check(boxes: Boxes) -> None:
    corners, score = boxes.corners, boxes.score
    fits = corners.shape == (boxes.kind.size, 4) and score.shape == boxes.image.shape
    if not fits or not np.isfinite(corners).all() or not ((score >= 0) & (score <= 1)).all():
        raise DeclarationError("a box has no four finite corners, or a score outside [0, 1]")
    if (corners[:, 2:] < corners[:, :2]).any():
        raise DeclarationError(
            "a box ends before it begins", hint="corners are x1, y1, x2, y2 with x1 <= x2, y1 <= y2"
        )


def _pairs(
    given: Boxes, found: Boxes, images: int
) -> Iterator[tuple[slice, slice, Floats, Floats]]:
    """The boxes of each image, how far they overlap and how alike they are."""
    numbers = np.arange(images + 1)
    ours = np.searchsorted(given.image, numbers).tolist()
    theirs = np.searchsorted(found.image, numbers).tolist()
    for i in range(images):
        mine, other = slice(ours[i], ours[i + 1]), slice(theirs[i], theirs[i + 1])
        a, b = given.corners[mine], found.corners[other]
        overlap = _overlaps(a, b)
        gap = ((a[:, :2] + a[:, 2:]) / 2)[:, None] - ((b[:, :2] + b[:, 2:]) / 2)[None]
        near = np.exp(-np.sqrt((gap**2).sum(2)) * REACH)
        yield mine, other, overlap, overlap * OVERLAP + (1.0 - OVERLAP) * near


def _overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union of all pairs."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.where((sides >= 0).all(2), sides.prod(2), 0.0)
    areas = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a, b)]
    made: Floats = shared / np.maximum(areas[0][:, None] + areas[1][None, :] - shared, 1e-6)
    return made


def _pooled(quality: Floats, image: Ints, images: int) -> Floats:
    """One quality an image, mostly its worst box's; 1 without boxes."""
    asked = ~np.isnan(quality)
    some, of = quality[asked], image[asked]
    lowest = np.full(images, np.inf)
    np.minimum.at(lowest, of, some)
    weight = np.exp((lowest[of] - some) / SHARPNESS)
    total = np.bincount(of, weights=weight, minlength=images)
    mean = np.bincount(of, weights=weight * some, minlength=images)
    return np.where(total > 0, mean / np.maximum(total, 1e-300), 1.0)


def _well_found(
    given: Boxes, found: Boxes, pairs: list[tuple[slice, slice, Floats]], classes: int
) -> NDArray[np.float32]:
    """Mean average precision of each class over `STRICTNESS`: a model's word counts as far."""
    right = np.zeros((STRICTNESS.size, found.kind.size), np.float32)
    for mine, theirs, overlap in pairs:
        kinds, others = given.kind[mine], found.kind[theirs]
        for k in np.intersect1d(kinds, others):
            own, rows = np.flatnonzero(kinds == k), np.flatnonzero(others == k)
            table = overlap[np.ix_(own, rows)]
            best, match = table.max(0), table.argmax(0)
            order = np.argsort(-found.score[theirs][rows])
            for strict, bar in enumerate(STRICTNESS):
                hits = order[best[order] >= bar]
                _, first = np.unique(match[hits], return_index=True)
                right[strict, theirs.start + rows[hits[first]]] = 1
    made = np.zeros(classes, np.float32)
    for k in range(classes):
        rows = np.flatnonzero(found.kind == k)
        rows = rows[np.argsort(-found.score[rows])]
        count = int((given.kind == k).sum())
        made[k] = np.mean([_average_precision(line[rows], count) for line in right])
    return made


def _average_precision(right: NDArray[np.float32], count: int) -> np.float32:
    """The area under the falling hull of precision over recall."""
    hits = np.cumsum(right, dtype=np.float32)
    recall = np.r_[0.0, hits / max(count, float(np.finfo(np.float32).eps)), 1.0]
    precision = np.r_[0.0, hits / np.arange(1, hits.size + 1, dtype=np.float32), 0.0]
    hull = np.maximum.accumulate(precision[::-1])[::-1]
    return np.float32((np.diff(recall) * hull[1:]).sum())
