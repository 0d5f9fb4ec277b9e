# SPDX-License-Identifier: Apache-2.0
"""Rows that are as their label is, though their neighbours, by a background, say, are of others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.axes import principal_of
from datapipe.stages.poisoning._image.content import COMPONENTS, Content
from datapipe.stages.poisoning._image.parted import without_crowd
from datapipe.stages.poisoning._image.pixels import Pixels, some

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEARER = 0.5
"""Rows are as their label is where the squared distance of their mean to it is below this share of
that to what they show: of three sets with backgrounds it was .3 to .45, of some 50 planted patterns
.99 or more where neighbours did not vouch for them."""
MOST_TAUGHT = 3000
"""So many rows, evenly spread, tell how rows lie around the mean of their label."""
RIDGE = 1e-6


def like_their_label(content: Content, pixels: Pixels, rows: Ints) -> bool:
    """Whether some rows lie nearer to their label than to what neighbours take them for.

    Distances are those of linear discriminants, which count little what differs among rows of one
    label: a background that is mostly one class's makes neighbours, but some rows of each class
    have another. A pattern adds to both distances. The rows asked tell none, nor do others of their
    labels that are not genuine. Where those that are part in two along what the rows share, many
    hold a pattern and vouch for each other, and nothing is said.

    Args:
        content: What the images show.
        pixels: Shape (n, d).
        rows: Numbers of rows that share a pattern.
    """
    labels, shows = content.labels, content.shows
    taught = content.left & (content.genuine | ~np.isin(labels, labels[rows]))
    taught[rows] = False
    told = some(np.flatnonzero(taught), MOST_TAUGHT)
    if not np.isin(np.union1d(labels[rows], shows[rows]), labels[told]).all():
        return False
    axes = principal_of(pixels, told, COMPONENTS, np.random.default_rng(rows.size))
    middle = axes.mean @ axes.axes.T
    among, asked = (pixels.project(axes.axes.T, r) - middle for r in (told, rows))
    means, spread = _around(among.astype(np.float64), labels[told], content.classes)
    to_label, to_shown = ((asked - means[of[rows]]).mean(0) for of in (labels, shows))
    near, far = (apart @ np.linalg.solve(spread, apart) for apart in (to_label, to_shown))
    along = among[np.isin(labels[told], labels[rows])] @ np.linalg.solve(spread, to_shown)
    return bool(near < NEARER * far and without_crowd(along).size == along.size)


def _around(rows: Floats, labels: Ints, classes: int) -> tuple[Floats, Floats]:
    """The mean row of each label, zero where it has none, and the covariance of rows around it."""
    own = (labels == np.arange(classes)[:, None]).astype(np.float64)
    means = own @ rows / np.maximum(own.sum(1), 1.0)[:, None]
    apart = rows - means[labels]
    spread = apart.T @ apart / len(apart)
    spread[np.diag_indices_from(spread)] += RIDGE * np.trace(spread) / len(spread) + 1e-12
    return means, spread
