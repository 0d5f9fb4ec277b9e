# SPDX-License-Identifier: Apache-2.0
"""`DawidSkene`: the likeliest label, given how reliable each annotator is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.stages.labels._answers import KINDS, Answers, answers_of, reported

MOST_CELLS = 2**26
"""Most cells of all confusion matrices together: half a gigabyte."""
DIAGONAL = 0.2
"""What the prior adds for a right answer."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DawidSkene(Stage):
    """Joins the answers of several annotators, weighing each by a learnt confusion matrix.

    *Method:* EM between the items' labels and one confusion matrix an annotator, started from the
    majority vote, with a small prior towards right answers; sums of logarithms throughout.
    *Assumes:* given the true label, annotators answer independently; skill does not depend on the
    item.
    *Choose it when:* annotators gave tens of answers each, and some are better, or err otherwise,
    than others.
    *Fails when:* answers per annotator are few (`labels.majority` is as good), items differ in
    difficulty, or most annotators share a bias.
    *Cost:* O(answers x classes) a round; annotators x classes^2 memory.

    Args:
        rounds: Most EM rounds, >= 1.
        smoothing: Weight of the prior, > 0, in answers per cell of a confusion matrix.
        on_finding: What is done with the answers of annotators who answer at chance.

    Example:
        >>> import polars as pl, pyarrow as pa, tempfile
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> table = pa.table({"i": [1, 1, 1, 2, 2], "w": list("abcab"), "y": list("xxzzz")})
        >>> data = Dataset.of(table, Roles.of(id="i", annotator="w", label="y"))
        >>> made = DawidSkene().run(data, Context(0, Path(tempfile.mkdtemp())))
        >>> pl.read_parquet(made.artifacts[0].path)["label"].to_list()
        ['x', 'z']

    References:
        Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates using the EM
        algorithm.
    """

    rounds: int = 100
    smoothing: float = 0.1
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "labels.dawid_skene"
    version: ClassVar[str] = "1"
    needs: ClassVar[tuple[str, ...]] = ("label", "id", "annotator")
    gives: ClassVar[tuple[str, ...]] = ("table",)
    raises_findings: ClassVar[tuple[str, ...]] = KINDS
    references: ClassVar[tuple[str, ...]] = (
        "Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates",
    )

    def check(self) -> list[str]:
        """Problems with the parameters.

        Returns:
            A sentence for each problem.

        Example:
            >>> DawidSkene(rounds=0).check()
            ['labels.dawid_skene: rounds=0 must be at least 1']
        """
        wrong = super().check()
        if self.rounds < 1:
            wrong.append(f"{self.name}: rounds={self.rounds} must be at least 1")
        if self.smoothing <= 0:
            wrong.append(f"{self.name}: smoothing={self.smoothing} must be above 0")
        return wrong

    def run(self, data: Dataset, context: Context) -> Yield:
        """Learn labels and skills together.

        Args:
            data: One answer a row, with the roles `id` (the item), `annotator` and `label`.
            context: Its scratch folder takes the tables.

        Returns:
            Findings `labels.aggregate` and `labels.annotators`; tables `dawid_skene.labels` (item,
            label, posterior, n, tied) and `dawid_skene.annotators` (annotator, answers, skill...).

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> table = pa.table({"i": [1, 2], "w": ["a", "b"], "y": ["x", "z"]})
            >>> data = Dataset.of(table, Roles.of(id="i", annotator="w", label="y"))
            >>> DawidSkene().run(data, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        answers = answers_of(data)
        if not isinstance(answers, str) and answers.shape[1] * answers.shape[2] ** 2 > MOST_CELLS:
            answers = "too many annotators and classes for a confusion matrix each"
        if isinstance(answers, str):
            return reported(answers, np.empty((0, 0)), context, data, "dawid_skene")
        return reported(answers, self._shares(answers), context, data, "dawid_skene")

    def _shares(self, answers: Answers) -> Floats:
        """The posterior of every item: float64, shape (items, classes)."""
        _, people, classes = answers.shape
        votes = answers.votes()
        shares = votes / votes.sum(1, keepdims=True)
        prior = self.smoothing * np.ones((classes, classes)) + DIAGONAL * np.eye(classes)
        by_item = _Groups.of(answers.item)
        by_habit = _Groups.of(answers.who * classes + answers.said)
        before = -np.inf
        for _ in range(self.rounds):
            seen = np.zeros((people * classes, classes))
            weighed = shares[answers.item] * answers.weight[:, None]
            seen[by_habit.keys] = by_habit.sums(weighed)
            confusion = seen.reshape(people, classes, classes).transpose(0, 2, 1) + prior
            logs = np.log(confusion / confusion.sum(2, keepdims=True))
            frequency = shares.sum(0) + self.smoothing
            told = logs[answers.who, :, answers.said] * answers.weight[:, None]
            scores = by_item.sums(told) + np.log(frequency / frequency.sum())
            top = scores.max(1, keepdims=True)
            shares = np.exp(scores - top)
            total = shares.sum(1, keepdims=True)
            shares /= total
            likelihood = float((top + np.log(total)).sum()) / answers.item.size
            if abs(likelihood - before) < 1e-7:
                break
            before = likelihood
        return np.asarray(shares, np.float64)


@dataclass(frozen=True, eq=False)
class _Groups:
    """Rows sorted by a key once, so that sums per key are one vectorised pass."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    keys: NDArray[np.int64]

    @classmethod
    def of(cls, key: NDArray[np.int64]) -> _Groups:
        order = np.argsort(key, kind="stable")
        keys, starts = np.unique(key[order], return_index=True)
        return cls(order, starts, keys)

    def sums(self, values: Floats) -> Floats:
        made: Floats = np.add.reduceat(values[self.order], self.starts, axis=0)
        return made
