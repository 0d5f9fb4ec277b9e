# SPDX-License-Identifier: Apache-2.0
"""What a network says of rows that it has not seen: outlying activations, groups, and losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datapipe.features.encoding import Encoded
from datapipe.features.networks import last_hidden, logits
from datapipe.stages.poisoning._small_network import Trainer

TRIMMED = 0.1
"""Of a class, this share of rows, those farthest from its middle, tells nothing of its spread."""
RIDGE = 0.05
SHARPNESS = 4.0
"""How much more the directions count in which a class spreads most (alpha of QUE)."""
COMPONENTS = 32

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scores:
    """Three scores of every row, from a network that has not seen it; float64, shape (n,).

    `outlying` is how far its activations lie out in the directions in which its class spreads more
    than a Gaussian does (as in SPECTRE), `group` where it lies on the line along which its class
    best parts in two (as in SCAn), and `loss` its loss after the first pass, of which both ends
    tell. `final` is the loss of the trained network.
    """

    outlying: Floats
    group: Floats
    loss: Floats
    final: Floats

    def part(self, start: int, stop: int | None = None) -> Scores:
        """The scores of some consecutive rows."""
        four = (self.outlying, self.group, self.loss, self.final)
        return Scores(*(score[start:stop] for score in four))


def scores_of(trainer: Trainer, fitted: Ints, asked: Ints) -> Scores:
    """Train on some rows and score others.

    Args:
        trainer: All rows, their labels, and how a network learns.
        fitted: int64, shape (m,): rows that are learnt from.
        asked: int64, shape (n,): rows that are scored.

    Returns:
        The scores of the rows asked, in their order.
    """
    labels, early = trainer.labels, np.zeros(asked.size)

    def after(number: int, model: nn.Module) -> None:
        if number == 0:
            early[:] = _losses(trainer, model, asked)

    model = trainer.on(fitted, after)
    own, other = (_behind(trainer, model, some) for some in (fitted, asked))
    outlying, group = np.zeros(asked.size), np.zeros(asked.size)
    shape = _Shape.of(own, labels[fitted])
    for k in np.unique(labels[asked]):
        mine = labels[asked] == k
        outlying[mine], group[mine] = shape.told(own[labels[fitted] == k], other[mine])
    return Scores(outlying, group, early, _losses(trainer, model, asked))


def _some(trainer: Trainer, some: Ints) -> Encoded:
    return Encoded(trainer.rows.shape, trainer.rows.take(some))


def _behind(trainer: Trainer, model: nn.Module, some: Ints) -> Floats:
    return last_hidden(model.eval(), _some(trainer, some)).astype(np.float64)


def _losses(trainer: Trainer, model: nn.Module, some: Ints) -> Floats:
    said = torch.from_numpy(logits(model, _some(trainer, some)))
    told = torch.from_numpy(trainer.labels[some])
    losses = nn.functional.cross_entropy(said, told, reduction="none")
    return np.asarray(losses.numpy(), np.float64)


@dataclass(frozen=True, eq=False)
class _Shape:
    """The spread that all classes share, as axes that bring it to one."""

    axes: Floats

    @classmethod
    def of(cls, behind: Floats, labels: Ints) -> _Shape:
        rest = np.concatenate(
            [behind[labels == k] - np.median(behind[labels == k], 0) for k in np.unique(labels)]
        )
        far = (rest**2).sum(1)
        near = rest[far <= np.quantile(far, 1.0 - TRIMMED)]
        spread, axes = np.linalg.eigh(near.T @ near / max(len(near) - 1, 1))
        widest = np.argsort(-spread)[:COMPONENTS]
        scale = np.sqrt(spread[widest].clip(0) + RIDGE * max(float(spread.max()), 1e-12))
        return cls(axes[:, widest] / scale)

    def told(self, own: Floats, asked: Floats) -> tuple[Floats, Floats]:
        """How far out rows of a class lie, and where on the line that parts it."""
        if not len(own):
            return np.zeros(len(asked)), np.zeros(len(asked))
        middle = np.median(own, 0)
        fitted, rows = (own - middle) @ self.axes, (asked - middle) @ self.axes
        spread, axes = np.linalg.eigh(fitted.T @ fitted / len(fitted))
        tilt = np.exp(SHARPNESS * (spread - spread.max()) / max(float(spread.max()) - 1.0, 1e-3))
        along = rows @ axes
        outlying = (along**2 * tilt).sum(1) / tilt.sum()
        return outlying, along[:, -1] / np.sqrt(max(float(spread[-1]), 1e-12))
