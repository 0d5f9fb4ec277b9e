# SPDX-License-Identifier: Apache-2.0
"""A standard small network that learns from some rows, for what only a trained model tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datapipe.features.encoding import Encoded
from datapipe.features.networks import build, convolutional, logits, perceptron

EPOCHS = {"image": 5, "text": 10, "table": 20}
BATCH, RATE = 128, 2e-3
FEWEST_STEPS = 400
"""Small sets are passed over more often, or nothing is learnt from them."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Trainer:
    """The rows as numbers, and how a network learns from some of them."""

    rows: Encoded
    labels: Ints
    kind: str
    seed: int

    def on(self, fitted: Ints, each: Callable[[int, nn.Module], None] | None = None) -> nn.Module:
        """Adam on cross-entropy; the same rows and seed give the same network.

        `each` is called after every pass with its number and the network.
        """
        shape, classes = self.rows.shape, int(self.labels.max()) + 1
        spec = perceptron(shape, classes)
        if len(shape) == 3:
            spec = convolutional(shape, classes, channels=(16, 32), hidden=128)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = build(spec)
            optimiser = torch.optim.Adam(model.parameters(), lr=self._rate)
            for number in range(max(EPOCHS[self.kind], -(-FEWEST_STEPS * BATCH // fitted.size))):
                shuffled = fitted[torch.randperm(fitted.size).numpy()]
                for start in range(0, fitted.size, BATCH):
                    self._step(model, optimiser, shuffled[start : start + BATCH])
                if each is not None:
                    each(number, model)
        return model

    @property
    def _rate(self) -> float:
        return RATE if self.kind == "image" else 2 * RATE

    def _step(self, model: nn.Module, optimiser: torch.optim.Optimizer, some: Ints) -> None:
        said = model(torch.from_numpy(self.rows.take(some)))
        loss = nn.functional.cross_entropy(said, torch.from_numpy(self.labels[some]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()

    def right(self, model: nn.Module, asked: Ints) -> Bools:
        """Whether each row gets the label that it carries."""
        if not asked.size:
            return np.zeros(0, np.bool_)
        said = logits(model, Encoded(self.rows.shape, self.rows.take(asked)))
        return np.asarray(said.argmax(1) == self.labels[asked])
