# SPDX-License-Identifier: Apache-2.0
"""Private training: DP-SGD whose normaliser is public and whose budget is never exceeded."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from datapipe.core.artifact import PrivacyEvent
from datapipe.core.context import Context, derived_seed
from datapipe.core.dataset import Dataset
from datapipe.core.parameters import OpenShare, Positive, PositiveInt, PositiveShare
from datapipe.core.stage import Yield
from datapipe.errors import DeclarationError
from datapipe.stages.train._accounting import (
    admitted,
    curve,
    noise_for,
    spent,
    steps_within,
)
from datapipe.stages.train._noisy_steps import PrivateSteps, unmixed
from datapipe.stages.train._rows import Prepared, Rows, prepare
from datapipe.stages.train._training import (
    Trained,
    Training,
    architecture,
    chosen_device,
    diverged,
    fitting,
    handed_over,
    repeatable,
)


@dataclass(frozen=True)
class TrainPrivately(Training):
    """Train a classifier with (epsilon, delta)-differential privacy for every training row.

    Each step draws every row with probability `sample_rate`, clips each drawn row's gradient to
    the norm `clip`, adds Gaussian noise to the sum and divides it by `batch_size`. That divisor is
    the declared constant, not the number of rows: dividing by a figure that depends on the private
    rows gives neighbouring data sets different noise, and the guarantee with it.

    Method: DP-SGD with Poisson sampling and Adam as the (post-processing) optimiser; per-row
        gradients and clipping by Opacus; epsilon by numerical composition (PRV). The noise
        multiplier is solved for epsilon, or given, and then training stops at the budget.
    Assumes: Public are the columns, the classes, the parameters and `ranges`. Two data sets are
        neighbours when one has one row more. Nothing is fitted on the rows: pictures and texts are
        encoded row by row, numbers squashed by asinh unless their public range is given.
    Choose it when: The model leaves the house and no single row may be told from it.
    Fails when: One person has many rows (the unit is the row; with a `subject` role the finding
        says how many). The seed is published: seeded noise can be computed from it and subtracted;
        use noise="fresh" for a release. Held-out rows are outside the guarantee: their accuracy is
        published without noise. The other parameters were tuned on the same rows.
    Cost: About 2-3 times plain training for small networks; memory of 256 per-row gradients; about
        1 s for the accountant.

    Args:
        epsilon: What this training may spend, > 0.
        delta: In (0, 1), and below 1 / rows.
        clip: Bound of a row's gradient norm, > 0.
        epochs: Expected passes over the rows, > 0; steps = epochs / sample_rate.
        sample_rate: Probability that a row is in a step's sample, in (0, 1].
        batch_size: The public divisor of the summed gradients: about how many rows you expect in a
            sample. It must not be computed from the private rows.
        learning_rate: Adam's step size, > 0.
        budget: What the data may spend in total, with what was spent before; None for `epsilon`.
        noise_multiplier: Noise in units of `clip`, > 0; None solves it for epsilon.
        noise: `seeded` follows from the run's seed; `fresh` is drawn from the operating system,
            and the step is then never reused.
        ranges: Publicly known (column, low, high) of numeric columns.
        model: A function `model(shape, n_classes)` that makes a torch.nn.Module; importable by
            name. None chooses by role.
        holdout: Share of rows held out for the evaluation, in [0, 1); they are not trained on.
        test: A Parquet file to evaluate on instead; then nothing is held out.
        split_seed: Seed of the split, shared by the models of a run.
        device: `auto` (cuda when there is one), `cpu` or `cuda`.
        threads: CPU threads; part of the result.
        named: The artifact's name and the finding's kind, `private` when empty.

    Example:
        >>> TrainPrivately(epsilon=0, sample_rate=1).check()
        ['train.private: epsilon=0 must be above 0']

    References:
        Abadi et al., 2016, Deep learning with differential privacy.
        Gopi, Lee & Wutschitz, 2021, Numerical composition of differential privacy.
        Yousefpour et al., 2021, Opacus: user-friendly differential privacy library in PyTorch.
    """

    name: ClassVar[str] = "train.private"
    raises_findings: ClassVar[tuple[str, ...]] = ("train.private",)
    uses: ClassVar[tuple[str, ...]] = ("privacy",)
    references: ClassVar[tuple[str, ...]] = (
        "Abadi et al., 2016, Deep learning with differential privacy.",
        "Gopi, Lee & Wutschitz, 2021, Numerical composition of differential privacy.",
        "Yousefpour et al., 2021, Opacus: user-friendly differential privacy library in PyTorch.",
    )

    epsilon: Positive = 3.0
    delta: OpenShare = 1e-5
    clip: Positive = 1.0
    epochs: Positive = 15
    sample_rate: PositiveShare = 0.1
    batch_size: PositiveInt = 128
    learning_rate: Positive = 1e-2
    budget: Positive | None = None
    noise_multiplier: Positive | None = None
    noise: Literal["seeded", "fresh"] = "seeded"
    ranges: tuple[tuple[str, float, float], ...] = ()

    def check(self) -> list[str]:
        """Problems with the parameters that can be told without data.

        Returns:
            A sentence for each problem, empty when there is none.

        Example:
            >>> TrainPrivately(ranges=(("age", 90.0, 0.0),)).check()
            ["train.private: ranges: ('age', 90.0, 0.0) is no (column, low, high) with low < high"]
        """
        if wrong := super().check():
            return wrong
        return [
            f"{self.name}: ranges: {known!r} is no (column, low, high) with low < high"
            for known in self.ranges
            if not known[1] < known[2]
        ]

    def cacheable(self) -> bool:
        """Whether equal keys promise equal results.

        Returns:
            False with fresh noise.

        Example:
            >>> TrainPrivately(noise="fresh").cacheable()
            False
        """
        return self.noise == "seeded"

    @property
    def steps(self) -> int:
        """Steps planned; it depends on parameters only."""
        return max(1, round(self.epochs / self.sample_rate))

    def run(self, data: Dataset, context: Context) -> Yield:
        """Admit the training, solve the noise, train, account, evaluate.

        Args:
            data: Rows with labels.
            context: Its seed decides weights, samples and seeded noise; `privacy_spent` is what
                the data has spent already.

        Returns:
            The model, a table of held-out answers, the finding `train.private`, and the use of
            the budget.

        Raises:
            BudgetSpent: Epsilon already spent and the one asked for exceed the budget.
            DataError: Labels or features are missing, there is one class, or too few rows.
            DeclarationError: delta is too large for the rows, the noise cannot be solved, or the
                network mixes rows.

        Example:
            >>> import tempfile, polars as pl
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> rows = pl.DataFrame({"a": [float(i % 2) for i in range(200)], "i": range(200)})
            >>> data = Dataset.of(rows.with_columns(y=pl.col("i") % 2), Roles.of(label="y"))
            >>> stage = TrainPrivately(epochs=2, noise_multiplier=2.0)
            >>> made = stage.run(data, Context(1, Path(tempfile.mkdtemp())))
            >>> made.privacy[0].epsilon <= 3.0
            True
        """
        budget = self.epsilon if self.budget is None else self.budget
        admitted(context.privacy_spent, self.epsilon, budget, self.delta)
        ready = prepare(
            data,
            holdout=self.holdout,
            split_seed=self.split_seed,
            test=self.test,
            row_local=True,
            ranges={column: (low, high) for column, low, high in self.ranges},
        )
        self._small_delta(len(ready.train))
        sigma, steps = self._schedule()
        device = chosen_device(self.device)
        spec = architecture(self.model, ready, private=True)
        with repeatable(context.seed, self.threads):
            module = fitting(spec, ready.train, device)
            unmixed(module)
            self._fit(module, ready.train, sigma, steps, context)
            diverged(module)
            event = self._event(sigma, steps)
            made = Trained(
                module, spec, device, self._facts(event), (event,), self._says(event, data, ready)
            )
            return handed_over(self, made, ready, data, context)

    def _small_delta(self, rows: int) -> None:
        if self.delta >= 1 / rows:
            raise DeclarationError(
                f"delta={self.delta:g} is no protection for {rows} rows: publishing one of them"
                " whole would satisfy it",
                code="DP-TRAIN-012",
                hint=f"use a delta well below {1 / rows:.1g}",
            )

    def _schedule(self) -> tuple[float, int]:
        """The noise multiplier and how many steps the budget allows."""
        q, sigma = self.sample_rate, self.noise_multiplier
        if sigma is None:
            return noise_for(self.epsilon, self.delta, q, self.steps), self.steps
        return sigma, steps_within(self.epsilon, self.delta, sigma, q, self.steps)

    def _event(self, sigma: float, steps: int) -> PrivacyEvent:
        epsilon = spent(sigma, self.sample_rate, steps, self.delta)
        return PrivacyEvent(
            "dp-sgd", sigma, self.sample_rate, steps, epsilon, self.delta, self.clip
        )

    def _fit(
        self, module: nn.Module, rows: Rows, sigma: float, steps: int, context: Context
    ) -> None:
        seed = (
            derived_seed(context.seed, "noise") if self.noise == "seeded" else secrets.randbits(63)
        )
        sampling = np.random.default_rng(derived_seed(seed, "samples"))
        device = next(module.parameters()).device
        optimiser = torch.optim.Adam(module.parameters(), lr=self.learning_rate)
        steps_of = PrivateSteps(
            module,
            optimiser,
            sigma=sigma,
            clip=self.clip,
            divisor=self.batch_size,
            generator=torch.Generator(device).manual_seed(seed),
        )
        for step in range(steps):
            steps_of.take(rows, np.flatnonzero(sampling.random(len(rows)) < self.sample_rate))
            if (step + 1) % max(1, steps // 10) == 0:
                context.say(f"{self.artifact_name}: step {step + 1} of {steps}")
        steps_of.close()

    def _facts(self, event: PrivacyEvent) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "epsilon": event.epsilon,
            "epsilon_target": self.epsilon,
            "delta": event.delta,
            "noise_multiplier": event.sigma,
            "sample_rate": event.sample_rate,
            "steps": event.steps,
            "steps_planned": self.steps,
            "clip": event.clip,
            "divisor": self.batch_size,
            "unit": event.unit,
            "neighbours": "one row more or less",
            "accountant": "prv, bounded by rdp",
            "noise": self.noise,
            "assumed_public": ["columns", "classes", "parameters", "ranges"],
            "epsilon_by_step": curve(event.sigma, event.sample_rate, event.steps, event.delta),
        }

    def _says(self, event: PrivacyEvent, data: Dataset, ready: Prepared) -> str:
        spent_on = f"Epsilon {event.epsilon:.3f} at delta {event.delta:g} was spent for every"
        said = [
            f"{spent_on} training row in {event.steps} steps.",
            "Held-out rows are outside the guarantee.",
        ]
        if self.noise == "seeded":
            said.append("The noise follows from the run's seed: keep it secret.")
        if "subject" in data.roles:
            subjects = data.values("subject").gather(ready.numbers)
            most = int(subjects.value_counts()["count"].max() or 1)  # type: ignore[arg-type]  # polars types max() for every dtype
            if most > 1:
                said.append(f"A subject has up to {most} rows: it is protected less than a row.")
        return " ".join(said)
