# SPDX-License-Identifier: Apache-2.0
"""`MajorityVote`: the answer that most annotators gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.measure.crowd import majority
from datapipe.stages.labels._answers import KINDS, answers_of, reported


@dataclass(frozen=True)
class MajorityVote(Stage):
    """Joins the answers of several annotators to one label an item, each voice alike.

    *Method:* counts answers; the posterior of a class is its share of the votes. An annotator who
    answered an item twice has one voice there. Ties go to the first class in order and are marked.
    *Assumes:* annotators err independently and none is much better than the others.
    *Choose it when:* annotators gave a handful of answers each, so that no skill can be learnt.
    *Fails when:* a majority of an item's annotators share an error, or are bots.
    *Cost:* one pass; O(items x classes) memory.

    Args:
        on_finding: What is done with the answers of annotators who answer at chance.

    Example:
        >>> import pyarrow as pa, tempfile
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> table = pa.table({"i": [1, 1, 1, 2, 2], "w": list("abcab"), "y": list("xxzzz")})
        >>> data = Dataset.of(table, Roles.of(id="i", annotator="w", label="y"))
        >>> made = MajorityVote().run(data, Context(0, Path(tempfile.mkdtemp())))
        >>> import polars as pl
        >>> pl.read_parquet(made.artifacts[0].path)["label"].to_list()
        ['x', 'z']

    References:
        Sheng, Provost & Ipeirotis, 2008, Get another label? Improving data quality and data mining
        using multiple, noisy labelers.
    """

    on_finding: OnFinding = "note"

    name: ClassVar[str] = "labels.majority"
    version: ClassVar[str] = "1"
    needs: ClassVar[tuple[str, ...]] = ("label", "id", "annotator")
    gives: ClassVar[tuple[str, ...]] = ("table",)
    raises_findings: ClassVar[tuple[str, ...]] = KINDS
    references: ClassVar[tuple[str, ...]] = (
        "Sheng, Provost & Ipeirotis, 2008, Get another label?",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Count the votes.

        Args:
            data: One answer a row, with the roles `id` (the item), `annotator` and `label`.
            context: Its scratch folder takes the tables.

        Returns:
            Findings `labels.aggregate` and `labels.annotators`; tables `majority.labels` (item,
            label, posterior, n, tied) and `majority.annotators` (annotator, answers, skill...).

        Example:
            >>> import tempfile
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> table = pa.table({"i": [1, 2], "w": ["a", "b"], "y": ["x", "z"]})
            >>> data = Dataset.of(table, Roles.of(id="i", annotator="w", label="y"))
            >>> MajorityVote().run(data, Context(0, Path(tempfile.mkdtemp()))).findings[0].verdict
            'not_evaluated'
        """
        return reported(answers_of(data), majority, context, data, "majority")
