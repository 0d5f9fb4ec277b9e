# SPDX-License-Identifier: Apache-2.0
"""Noisy steps: gradients clipped row by row, summed, noised, divided by a public constant."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import nn

from datapipe.errors import DeclarationError
from datapipe.stages.train._accounting import quiet
from datapipe.stages.train._rows import Rows

CHUNK_ROWS = 256
"""Rows whose gradients are held at once; a larger sample is summed in chunks."""


class PrivateSteps:
    """Noisy steps over Poisson samples; the divisor and the noise know nothing of the rows."""

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        *,
        sigma: float,
        clip: float,
        divisor: int,
        generator: torch.Generator,
    ) -> None:
        self._rowwise = GradSampleModule(module, loss_reduction="sum")
        self._device = next(module.parameters()).device
        self.optimiser = DPOptimizer(
            optimiser,
            noise_multiplier=sigma,
            max_grad_norm=clip,
            expected_batch_size=divisor,
            loss_reduction="mean",
            generator=generator,
        )

    def take(self, rows: Rows, sample: NDArray[np.int64]) -> None:
        """One step; a sample may be empty, and then it is noise alone."""
        self.optimiser.zero_grad()
        chunks = [sample[i : i + CHUNK_ROWS] for i in range(0, len(sample), CHUNK_ROWS)]
        for number, chunk in enumerate(chunks or [sample]):
            if number:
                self.optimiser.zero_grad()  # keeps the clipped sum of the chunks before
            self._row_gradients(rows, chunk)
            self.optimiser.signal_skip_step(number + 1 < len(chunks))
            with quiet():
                self.optimiser.step()

    def _row_gradients(self, rows: Rows, chunk: NDArray[np.int64]) -> None:
        """Leave each row's gradient in `grad_sample`; one that is not finite counts as 0.

        A single NaN would void the sum, and its absence or presence would tell of that row.
        """
        if not len(chunk):
            for p in self.optimiser.params:
                p.grad_sample = p.new_zeros((0, *p.shape))
            return
        y = torch.from_numpy(rows.y[chunk]).to(self._device)
        weights = torch.from_numpy(rows.weights[chunk]).to(self._device)
        with quiet():
            said = self._rowwise(torch.from_numpy(rows.x.take(chunk)).to(self._device))
            losses = nn.functional.cross_entropy(said, y, reduction="none")
            (weights * losses).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        gradients = [p.grad_sample for p in self.optimiser.params]
        sound = torch.stack([torch.isfinite(g.flatten(1)).all(1) for g in gradients]).all(0)
        if not bool(sound.all()):
            for p, g in zip(self.optimiser.params, gradients, strict=True):
                p.grad_sample = torch.where(sound.view(-1, *[1] * (g.dim() - 1)), g, 0.0)

    def close(self) -> None:
        """Take Opacus' hooks and per-row gradients off the module again."""
        self._rowwise.to_standard_module()


def unmixed(module: nn.Module) -> None:
    """Refuse layers that mix rows, such as batch normalisation: clipping would bound nothing."""
    problems = ModuleValidator.validate(module, strict=False)
    if problems:
        raise DeclarationError(
            f"the network cannot be trained privately: {problems[0]}",
            code="DP-TRAIN-012",
            hint="use GroupNorm or LayerNorm instead of batch normalisation",
        )
    if not all(p.requires_grad for p in module.parameters()):
        raise DeclarationError(
            "the network has parameters that need no gradient",
            code="DP-TRAIN-012",
            hint="register frozen tensors as buffers",
        )
