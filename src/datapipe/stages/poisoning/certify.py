# SPDX-License-Identifier: Apache-2.0
"""`CertifyPoisoning`: how many poisoned rows a prediction survives, with proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.core.parameters import PositiveInt, Range
from datapipe.core.stage import Stage, Yield
from datapipe.errors import DataError
from datapipe.features.encoding import fit_encoding
from datapipe.stages.poisoning._labelled import labelled
from datapipe.stages.poisoning._partitions import certified

HELD_OUT = 0.2
FEWEST_OF_PART = 5
"""Fewer training rows than this in a part teach it nothing."""
MOST_ASKED = 2000


@dataclass(frozen=True)
class CertifyPoisoning(Stage):
    """Says for how many added, removed or relabelled rows a vote of many models stays the same.

    *Method:* rows are dealt to parts by a hash of their own content, a small model is trained on
    each part, and the parts vote. One poisoned row reaches one part. Half the lead of the winner is
    the number of rows that no attack of any kind can do with less than.
    *Assumes:* nothing about the attack.
    *Choose it when:* you want a guarantee and not a detection.
    *Fails when:* data are few: each part must still learn something.
    *Cost:* one least-squares fit a part.

    Args:
        parts: How many parts, >= 2; more survive more and predict worse.
        rows: The number of poisoned rows that the finding speaks of, >= 1.

    Example:
        >>> from pathlib import Path
        >>> from datapipe.testing.worlds import digits_world
        >>> data = digits_world(7, damaged=False).dataset()
        >>> made = CertifyPoisoning(parts=50, rows=5).run(data, Context(7, Path("."))).findings[0]
        >>> made.measure.value > 0.3
        True

    References:
        Levine & Feizi, 2021, Deep partition aggregation: provable defenses against general
        poisoning attacks.
    """

    parts: Annotated[int, Range(2)] = 50
    rows: PositiveInt = 5

    name: ClassVar[str] = "poisoning.certify"
    version: ClassVar[str] = "3"
    needs: ClassVar[tuple[str, ...]] = ("label",)
    raises_findings: ClassVar[tuple[str, ...]] = ("poisoning.certify",)
    extra: ClassVar[str] = "learn"
    references: ClassVar[tuple[str, ...]] = ("Levine & Feizi, 2021, Deep partition aggregation",)

    def run(self, data: Dataset, context: Context) -> Yield:
        """Certify predictions of held-out rows.

        Args:
            data: Rows with the role `label`, and features by role or without one.
            context: Its seed draws the rows that are held out.

        Returns:
            One finding: the share of held-out rows that are predicted rightly whatever `rows`
            poisoned rows do, with a line for each of them; its score is minus the radius. It is
            *suspect* where that is none.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> few = Dataset.of(pa.table({"x": [1.0, 2.0], "y": [0, 1]}), Roles.of(label="y"))
            >>> CertifyPoisoning().run(few, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        known = labelled(data, 1)  # a class of one row counts: leaving it out would be one row more
        if known.why:
            return self.not_evaluated(known.why)
        order = context.rng("held out").permutation(known.labels.size)
        some = min(int(HELD_OUT * order.size), MOST_ASKED)
        asked, fitted = np.sort(order[:some]), np.sort(order[some:])
        if fitted.size < FEWEST_OF_PART * self.parts:
            least = int(np.ceil(FEWEST_OF_PART * self.parts / (1 - HELD_OUT)))
            return self.not_evaluated(
                f"{order.size} rows in {self.parts} parts; {least} are the least"
            )
        try:
            encoded = fit_encoding(data, row_local=True).encode(data.frame())
        except DataError as error:
            return self.not_evaluated(f"rows cannot be read one by one: {error.args[0]}")
        values = encoded.take(known.place).reshape(order.size, -1)
        made = certified(
            values[fitted], known.labels[fitted], values[asked], len(known.names), self.parts
        )
        right = made.label == known.labels[asked]
        safe = right & (made.radius >= self.rows)
        radius = np.where(right, made.radius, -1)
        says = (
            f"{int(safe.sum())} of {some} held-out rows are predicted rightly whatever {self.rows}"
            " poisoned rows do"
        )
        finding = Finding(
            self.name,
            "clean" if safe.any() else "suspect",  # a guarantee that holds for no row is none
            Estimate.rate(int(safe.sum()), some),
            says,
            columns=(data.roles.one("label"),),
            rows=scored_rows(data.row_ids.gather(known.place[asked]), -radius.astype(np.float64)),
            details={
                "parts": self.parts,
                "rows": self.rows,
                "accuracy": Estimate.rate(int(right.sum()), some).to_json(),
                "median_radius": int(np.median(radius)),
                "certified": {
                    str(r): Estimate.rate(int((radius >= r).sum()), some).to_json()
                    for r in sorted({0, 1, 2, 5, 10, 20, self.rows})
                },
            },
        )
        return Yield(findings=(finding,))
