# SPDX-License-Identifier: Apache-2.0
"""`DawidSkene`: one label an item, each annotator weighed by how he answers each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.measure.crowd import dawid_skene
from datapipe.stages.labels._answers import coded, told


@dataclass(frozen=True)
class DawidSkene(Stage):
    """Merges answers to one label an item with a confusion matrix for every annotator.

    *Method:* expectation maximisation over the items' classes and the annotators' confusion
    matrices, with a weak prior that favours right answers (maximum a posteriori).
    *Assumes:* annotators answer independently once the class is known, and their mistakes depend
    on the class only, not on how hard the item is.
    *Choose it when:* annotators gave ten or more answers each and some are careless or biased.
    *Fails when:* annotators gave one or two answers each (plain votes are then as good or better),
    or most of them share a mistake: the model then believes the mistake.
    *Cost:* O(answers x classes) a round; memory annotators x classes squared.

    Args:
        iterations: Most rounds, >= 1.
        smoothing: Pseudo-answers in each cell of a confusion matrix, > 0.
        on_finding: What is done with answers that differ from the consensus of their item.

    Example:
        >>> DawidSkene(iterations=0).check()
        ['labels.dawid_skene: iterations=0 must be at least 1']

    References:
        Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates.
    """

    iterations: int = 100
    smoothing: float = 0.1
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "labels.dawid_skene"
    needs: ClassVar[tuple[str, ...]] = ("id", "annotator", "label")
    raises_findings: ClassVar[tuple[str, ...]] = ("labels.dawid_skene",)
    references: ClassVar[tuple[str, ...]] = (
        "Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates.",
    )

    def check(self) -> list[str]:
        """Problems with the parameters.

        Returns:
            A sentence for each problem.

        Example:
            >>> DawidSkene(smoothing=0).check()
            ['labels.dawid_skene: smoothing=0 must be above 0']
        """
        wrong = super().check()
        if self.iterations < 1:
            wrong.append(f"{self.name}: iterations={self.iterations} must be at least 1")
        if self.smoothing <= 0:
            wrong.append(f"{self.name}: smoothing={self.smoothing} must be above 0")
        return wrong

    def run(self, data: Dataset, context: Context) -> Yield:
        """Estimate annotators and items together.

        Args:
            data: One row an answer, with the roles `id` (the item), `annotator` and `label`.
            context: Its scratch folder takes the tables.

        Returns:
            The finding `labels.dawid_skene`, a table of items and a table of annotators.

        Example:
            >>> DawidSkene.raises_findings
            ('labels.dawid_skene',)
        """
        answers = coded(data)
        made = dawid_skene(answers.answers, iterations=self.iterations, smoothing=self.smoothing)
        return told(self.name, made, answers, context)
