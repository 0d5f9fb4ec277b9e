# SPDX-License-Identifier: Apache-2.0
"""`MajorityVote`: one label an item from several annotators' answers, everybody counting alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.measure.crowd import majority
from datapipe.stages.labels._answers import coded, told


@dataclass(frozen=True)
class MajorityVote(Stage):
    """Merges answers to one label an item by counting votes.

    *Method:* the share of votes is the posterior; ties go to the smallest label and show as a
    posterior of at most one half.
    *Assumes:* annotators are about equally good, and mistakes are not shared.
    *Choose it when:* each annotator gave few answers, so that their skill cannot be estimated.
    *Fails when:* a few annotators answer at random or in league: each of their answers counts as
    much as an expert's. `DawidSkene` weighs them.
    *Cost:* one pass over the answers, O(answers + items x classes) memory.

    Args:
        on_finding: What is done with answers that differ from the consensus of their item.

    Example:
        >>> import tempfile, polars as pl
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> frame = pl.DataFrame({"q": [i // 3 for i in range(60)], "who": list("abc") * 20,
        ...                       "answer": ["yes", "yes", "no"] * 20})
        >>> data = Dataset.of(frame, Roles.of(id="q", annotator="who", label="answer"))
        >>> made = MajorityVote().run(data, Context(1, Path(tempfile.mkdtemp())))
        >>> pl.read_parquet(made.artifacts[0].path)["label"].unique().to_list()
        ['yes']

    References:
        Snow et al., 2008, Cheap and fast - but is it good?
    """

    on_finding: OnFinding = "note"

    name: ClassVar[str] = "labels.majority"
    needs: ClassVar[tuple[str, ...]] = ("id", "annotator", "label")
    raises_findings: ClassVar[tuple[str, ...]] = ("labels.majority",)
    references: ClassVar[tuple[str, ...]] = ("Snow et al., 2008, Cheap and fast - but is it good?",)

    def run(self, data: Dataset, context: Context) -> Yield:
        """Count the votes.

        Args:
            data: One row an answer, with the roles `id` (the item), `annotator` and `label`.
            context: Its scratch folder takes the tables.

        Returns:
            The finding `labels.majority`, a table of items and a table of annotators.

        Example:
            >>> MajorityVote.needs
            ('id', 'annotator', 'label')
        """
        answers = coded(data)
        return told(self.name, majority(answers.answers), answers, context)
