# SPDX-License-Identifier: Apache-2.0
"""Plain training: Adam on cross-entropy, the yardstick for the private and federated trainers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from datapipe.core.context import Context, derived_seed
from datapipe.core.dataset import Dataset
from datapipe.core.parameters import Positive, PositiveInt
from datapipe.core.stage import Yield
from datapipe.stages.train._rows import Rows, prepare
from datapipe.stages.train._training import (
    Trained,
    Training,
    architecture,
    batches,
    chosen_device,
    diverged,
    fitting,
    handed_over,
    repeatable,
)


@dataclass(frozen=True)
class TrainPlain(Training):
    """Train a classifier on the rows and measure it on rows that it never saw.

    The network follows from the roles: pictures get a small convolutional network, texts hashed
    words and a dense network, tables a dense network on standardised columns. The model is a
    safetensors file of weights; everything else that is needed to use it (the description of the
    network, the fitted encoding, the classes) is JSON in the artifact's facts.

    Method: Adam on the weighted cross-entropy, a fixed number of epochs, no early stopping, so
        that the held-out rows choose nothing and their accuracy is unbiased.
    Assumes: Rows are independent once rows of one subject, of one id, or of equal content are kept
        on one side of the split.
    Choose it when: The data needs no privacy guarantee, or as the yardstick beside one that has.
    Fails when: Labels are wrong in a systematic way; near copies (not exact ones) lie on both sides
        of the split: run dedup first. A backdoor in the rows is learned like any other pattern.
    Cost: epochs x rows forward and backward passes; memory of the encoded rows.

    Args:
        epochs: Passes over the training rows, >= 1.
        learning_rate: Adam's step size, > 0.
        batch_size: Rows a step, >= 1.
        model: A function `model(shape, n_classes)` that makes a torch.nn.Module; importable by
            name. None chooses by role.
        holdout: Share of rows held out for the evaluation, in [0, 1).
        test: A Parquet file to evaluate on instead; then nothing is held out. Give the same file
            to two trainers and their answers are comparable row by row.
        split_seed: Seed of the split. It is no part of the run's seed, so that all models of a run
            hold out the same rows.
        device: `auto` (cuda when there is one), `cpu` or `cuda`.
        threads: CPU threads; part of the result, since sums in another order differ a little.
        named: The artifact's name and the finding's kind, `plain` when empty.

    Example:
        >>> TrainPlain(epochs=0).check()
        ['train.plain: epochs=0 must be at least 1']

    References:
        Kingma & Ba, 2015, Adam: a method for stochastic optimization.
    """

    name: ClassVar[str] = "train.plain"
    raises_findings: ClassVar[tuple[str, ...]] = ("train.plain",)
    references: ClassVar[tuple[str, ...]] = (
        "Kingma & Ba, 2015, Adam: a method for stochastic optimization.",
    )

    epochs: PositiveInt = 15
    learning_rate: Positive = 2e-3
    batch_size: PositiveInt = 64

    def run(self, data: Dataset, context: Context) -> Yield:
        """Train and evaluate.

        Args:
            data: Rows with labels.
            context: Its seed decides the first weights and the order of the rows.

        Returns:
            The model, a table of held-out answers, and the finding `train.plain`.

        Raises:
            DataError: Labels or features are missing, there is one class, or too few rows.
            DeclarationError: The user's network does not fit the rows, or there is no such device.

        Example:
            >>> import tempfile, polars as pl
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> rows = pl.DataFrame({"a": [float(i % 2) for i in range(100)], "i": range(100)})
            >>> data = Dataset.of(rows.with_columns(y=pl.col("i") % 2), Roles.of(label="y"))
            >>> made = TrainPlain(epochs=20).run(data, Context(1, Path(tempfile.mkdtemp())))
            >>> made.findings[0].measure.value
            1.0
        """
        ready = prepare(data, holdout=self.holdout, split_seed=self.split_seed, test=self.test)
        device = chosen_device(self.device)
        spec = architecture(self.model, ready)
        with repeatable(context.seed, self.threads):
            module = fitting(spec, ready.train, device)
            self._fit(module, ready.train, device, context)
            diverged(module)
            facts = {"epochs": self.epochs}
            return handed_over(self, Trained(module, spec, device, facts), ready, data, context)

    def _fit(self, module: nn.Module, rows: Rows, device: str, context: Context) -> None:
        order = torch.Generator().manual_seed(derived_seed(context.seed, "order"))
        y, weights = torch.from_numpy(rows.y).to(device), torch.from_numpy(rows.weights).to(device)
        optimiser = torch.optim.Adam(module.parameters(), lr=self.learning_rate)
        module.train()
        for epoch in range(self.epochs):
            for index in batches(len(rows), self.batch_size, order):
                said = module(torch.from_numpy(rows.x.take(index)).to(device))
                losses = nn.functional.cross_entropy(said, y[index], reduction="none")
                w = weights[index]
                loss = (w * losses).sum() / w.sum().clamp_min(1e-12)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimiser.step()
            context.say(f"{self.artifact_name}: epoch {epoch + 1} of {self.epochs}")
