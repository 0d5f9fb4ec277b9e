# SPDX-License-Identifier: Apache-2.0
"""`AggregateAnswers`: one label an item by the way of joining that suits the crowd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.measure.crowd import Answers, Consensus
from datapipe.measure.crowd_choice import Choice, aggregate
from datapipe.stages.labels._answers import KINDS, answers_of, reported
from datapipe.stages.labels._scales import choices_joined, values_joined

Method = Literal[
    "auto",
    "majority",
    "wawa",
    "one_coin",
    "dawid_skene",
    "hierarchical",
    "ibcc",
    "ebcc",
    "glad",
]

Kind = Literal["class", "value", "pair"]


@dataclass(frozen=True)
class AggregateAnswers(Stage):
    """Joins the answers of several annotators by the methods that foretell left-out answers.

    *Method:* every fourth answer is left out in turn; ten ways of joining (votes, weighted votes,
    one-coin, Dawid-Skene, hierarchical Dawid-Skene, IBCC, EBCC, some with a weak and a firm prior)
    say how likely the left-out answers were; their posteriors are averaged with weights that fall
    off with that likelihood. Each item's own weighted votes keep a voice, so that disagreement
    stays in the soft labels. Gold questions are clamped. One method alone can be named.
    *Assumes:* what foretells answers also finds labels.
    *Choose it when:* it is not known whether annotators differ, and in what: no method wins on
    every crowd.
    *Fails when:* most annotators share an error: no method can tell from answers alone.
    *Cost:* each method five times; O(items x classes + annotators x classes^2) memory. Methods
    whose tables would not fit are left out, and the finding says so.

    Args:
        method: `auto`, or `majority`, `wawa`, `one_coin`, `dawid_skene`, `hierarchical`, `ibcc`,
            `ebcc`, `glad`.
        gold: Column with the known label of gold questions, null elsewhere; empty for none.
        kind: What an answer is: a `class`, a `value` (joined to means, biases taken out) or the
            better one of a `pair` (joined to a Bradley-Terry ranking).
        versus: For `pair`, the column with the second item.
        on_finding: What is done with the answers of annotators who answer at chance.

    Example:
        >>> import polars as pl, pyarrow as pa, tempfile
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> table = pa.table({"i": [1, 1, 1, 2, 2], "w": list("abcab"), "y": list("xxzzz")})
        >>> data = Dataset.of(table, Roles.of(id="i", annotator="w", label="y"))
        >>> made = AggregateAnswers().run(data, Context(0, Path(tempfile.mkdtemp())))
        >>> pl.read_parquet(made.artifacts[0].path)["label"].to_list()
        ['x', 'z']

    References:
        Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates; Li, Rubinstein
        & Cohn, 2019, Exploiting worker correlation for label aggregation in crowdsourcing; Yao et
        al., 2018, Using stacking to average Bayesian predictive distributions.
    """

    method: Method = "auto"
    gold: str = ""
    kind: Kind = "class"
    versus: str = ""
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "labels.aggregate"
    version: ClassVar[str] = "2"
    needs: ClassVar[tuple[str, ...]] = ("label", "id", "annotator")
    gives: ClassVar[tuple[str, ...]] = ("table",)
    raises_findings: ClassVar[tuple[str, ...]] = KINDS
    references: ClassVar[tuple[str, ...]] = (
        "Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates",
        "Li, Rubinstein & Cohn, 2019, Exploiting worker correlation for label aggregation",
        "Yao et al., 2018, Using stacking to average Bayesian predictive distributions",
    )

    def check(self) -> list[str]:
        """Problems with the parameters.

        Returns:
            A sentence for each problem.

        Example:
            >>> AggregateAnswers(kind="pair").check()
            ["labels.aggregate: kind='pair' and versus=COLUMN go together"]
        """
        wrong = super().check()
        if (self.kind == "pair") != bool(self.versus):
            wrong.append(f"{self.name}: kind='pair' and versus=COLUMN go together")
        return wrong

    def run(self, data: Dataset, context: Context) -> Yield:
        """Join the answers.

        Args:
            data: One answer a row, with the roles `id` (the item), `annotator` and `label`.
            context: Its seed deals the folds; its scratch folder takes the tables.

        Returns:
            Findings `labels.aggregate` and `labels.annotators`; tables `aggregate.labels` (item,
            label, posterior, n, tied, probabilities) and `aggregate.annotators`.

        Example:
            >>> import pyarrow as pa, tempfile
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> table = pa.table({"i": [1, 2], "w": ["a", "b"], "y": ["x", "z"]})
            >>> data = Dataset.of(table, Roles.of(id="i", annotator="w", label="y"))
            >>> made = AggregateAnswers().run(data, Context(0, Path(tempfile.mkdtemp())))
            >>> made.findings[0].verdict, len(made.artifacts)
            ('not_evaluated', 2)
        """
        if self.kind == "value":
            return values_joined(data, context)
        if self.kind == "pair":
            return choices_joined(data, context, self.versus)
        seed = int(context.rng("crowd").integers(2**31))
        chosen: list[Choice] = []

        def joined(answers: Answers) -> Consensus:
            chosen.append(aggregate(answers, self.method, seed=seed))
            return chosen[0].consensus

        def details() -> dict[str, Any]:
            made = chosen[0]
            return {
                "weights": dict(made.weights),
                "scores": {n: s.to_json() for n, s in made.scores.items()},
                "methods_left_out": dict(made.left_out),
                "own_voice": made.own_voice,
            }

        told = answers_of(data, self.gold)
        return reported(told, joined, context, data, "aggregate", details=details)
