# SPDX-License-Identifier: Apache-2.0
"""`DawidSkene`: the likeliest label, given how reliable each annotator is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.parameters import Positive, PositiveInt
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.measure.crowd import MOST_CELLS, Answers, Consensus
from datapipe.measure.crowd_models import dawid_skene
from datapipe.stages.labels._answers import KINDS, answers_of, reported


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

    rounds: PositiveInt = 100
    smoothing: Positive = 0.1
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "labels.dawid_skene"
    version: ClassVar[str] = "1"
    needs: ClassVar[tuple[str, ...]] = ("label", "id", "annotator")
    gives: ClassVar[tuple[str, ...]] = ("table",)
    raises_findings: ClassVar[tuple[str, ...]] = KINDS
    references: ClassVar[tuple[str, ...]] = (
        "Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Learn labels and skills together.

        Args:
            data: One answer a row, with the roles `id` (the item), `annotator` and `label`.
            context: Its scratch folder takes the tables.

        Returns:
            Findings `labels.aggregate` and `labels.annotators`; tables `dawid_skene.labels` (item,
            label, posterior, n, tied) and `dawid_skene.annotators` (annotator, answers, skill...).

        Example:
            >>> import tempfile
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> table = pa.table({"i": [1, 2], "w": ["a", "b"], "y": ["x", "z"]})
            >>> data = Dataset.of(table, Roles.of(id="i", annotator="w", label="y"))
            >>> DawidSkene().run(data, Context(0, Path(tempfile.mkdtemp()))).findings[0].verdict
            'not_evaluated'
        """
        told = answers_of(data)
        if not isinstance(told, str):
            k = told.answers.n_classes
            if told.answers.n_annotators * k**2 > MOST_CELLS:
                told = "too many annotators and classes for a confusion matrix each"
        return reported(told, self._joined, context, data, "dawid_skene")

    def _joined(self, answers: Answers) -> Consensus:
        return dawid_skene(
            answers, iterations=self.rounds, tolerance=1e-7, smoothing=self.smoothing
        )
