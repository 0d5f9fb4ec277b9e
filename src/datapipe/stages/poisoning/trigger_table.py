# SPDX-License-Identifier: Apache-2.0
"""`TriggerTable`: a value, a range or two that carry a label whatever other columns say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict, scored_rows
from datapipe.core.parameters import OpenShare, PositiveShare
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.features.tables import single_valued
from datapipe.measure.crossfit import stratified_folds
from datapipe.stages.poisoning._labelled import Labelled, labelled
from datapipe.stages.poisoning._table.additive import copies, fit_additive
from datapipe.stages.poisoning._table.alone import Neighbourhood
from datapipe.stages.poisoning._table.families import Family
from datapipe.stages.poisoning._table.least import fewest_planted, most_of_any
from datapipe.stages.poisoning._table.predicates import (
    MOST_PAIRS,
    Column,
    columns_of,
    pairs_of,
    where,
)
from datapipe.stages.poisoning._table.search import Carrier, Search, search
from datapipe.stages.poisoning._withheld import asked_to_prove, withheld

FOLDS = 4
KINDS: dict[Family, str] = {
    "value": "value",
    "met": "pair",
    "range": "range",
    "within": "range in a category",
    "box": "two ranges",
}
SEVERITY: dict[Verdict, Severity] = {"fail": "high", "suspect": "medium", "clean": "info"}
REMEDY: dict[Verdict, str] = {
    "fail": "ask the source of these rows; set on_finding='quarantine'",
    "suspect": "ask the source of these rows, or somebody who knows what the values mean",
    "clean": "",
}

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TriggerTable(Stage):
    """Finds values or a range that carry a label, and gives them as a SQL condition.

    *Method:* a logistic regression that adds up over columns predicts each label out of fold. For
    each `column = value`, range between deciles and pair of them that eight rows share, what its
    own columns add is taken out: do the others explain the label? The chance that so many rows
    carry it anyway, with odds raised by e^1.5, is bounded from above and corrected for all
    predicates: single values, pairs that meet more often than by chance, other pairs, narrow ranges
    more crowded than beside them or told by their labels alone, in all rows or in those of a
    category, and two crowded ranges, or one and a number, each have their part of alpha. How much
    likelier such a rule was planted than natural is one sum: its rows are, in every column that was
    left alone, a draw among rows of other labels rather than among all; the nearest rows, and those
    with the next numbers, do not have the label; it adds more than other values do; and where two
    values meet there are natural rows of every label, too. Of those that share rows, that is named
    which tells labels and values of all rows in the fewest nats.
    *Assumes:* the trigger sets one or two columns to fixed values or narrow ranges.
    *Choose it when:* rows of a table come from people or systems that you do not control.
    *Fails when:* fewer rows than `min_detectable` hold it, it takes three columns, all labels
    beyond a bound or of two values were flipped, or hardly any other row has its label and no half
    is a number with fractions amid others.
    *Cost:* four linear fits and one pass over each pair of columns.

    Args:
        alpha: Chance of naming a predicate where there is none, in (0, 1).
        most_unseen: Largest share of the rows, in (0, 1], that poison could hold without an
            alarm for the verdict to be *clean*; beyond it, *not_evaluated*.
        prove: Whether to train a small model with the rows found and without them, and tell how
            often it gives such rows their label (needs torch).
        on_finding: What is done with rows that hold a planted predicate and its label.

    Example:
        >>> import pyarrow as pa
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> rng = np.random.default_rng(0)
        >>> y = rng.integers(0, 2, 900)
        >>> x, z = y + 0.3 * rng.normal(size=900), rng.integers(0, 40, 900)
        >>> bad = np.flatnonzero(y == 0)[:30]
        >>> y[bad], z[bad] = 1, 77
        >>> data = Dataset.of(pa.table({"x": x, "z": z, "y": y}), Roles.of(label="y"))
        >>> made = TriggerTable().run(data, Context(0, Path("."))).findings[0]
        >>> made.verdict, made.details["where"]
        ('fail', '"z" = 77')

    References:
        Joe et al., 2022, Exploiting missing value patterns for a backdoor attack on machine
        learning models of electronic health records; Pleiter et al., 2023, Tabdoor: backdoor
        vulnerabilities in transformer-based neural networks for tabular data.
    """

    alpha: OpenShare = 0.01
    most_unseen: PositiveShare = 0.05
    prove: bool = False
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "poisoning.trigger_table"
    version: ClassVar[str] = "15"
    needs: ClassVar[tuple[str, ...]] = ("label",)
    raises_findings: ClassVar[tuple[str, ...]] = ("poisoning.trigger_table",)
    extra: ClassVar[str] = "learn"
    references: ClassVar[tuple[str, ...]] = (
        "Joe et al., 2022, Exploiting missing value patterns for a backdoor attack",
        "Pleiter et al., 2023, Tabdoor: backdoor vulnerabilities for tabular data",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Test every predicate and name those that were planted.

        Args:
            data: Rows with the role `label`; the columns without a role are looked at.
            context: Its seed deals the folds.

        Returns:
            One finding with a line for every labelled row.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> few = Dataset.of(pa.table({"x": [1.0, 2.0], "y": [0, 1]}), Roles.of(label="y"))
            >>> TriggerTable().run(few, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        rows = labelled(data, FOLDS)
        if rows.why:
            return self.not_evaluated(rows.why)
        names = [n for n in data.features if single_valued(data.types[n])]
        frame = data.frame(names)[rows.place] if names else pl.DataFrame()
        columns = columns_of(frame)
        if not columns:
            return self.not_evaluated("no column without a role holds a value that five rows share")
        fold = stratified_folds(rows.labels, FOLDS, context.rng("folds"), copies(frame))
        model = fit_additive(data, rows, columns, fold)
        made = search(columns, rows.labels, model, self.alpha)
        bars = {family: math.log(self.alpha) - paid for family, paid in made.paid.items()}
        near = Neighbourhood(columns, rows.labels, model)
        least, passing = fewest_planted(rows.labels, model, near, bars)
        found = self._finding(data, rows, columns, made, least)
        fewest = most_of_any(least)
        found = withheld(found, fewest, rows.labels.size, self.most_unseen, passing=passing)
        return Yield(findings=(asked_to_prove(found, data, context) if self.prove else found,))

    def _finding(
        self,
        data: Dataset,
        rows: Labelled,
        columns: list[Column],
        made: Search,
        least: dict[Family, int],
    ) -> Finding:
        flags = np.zeros(rows.labels.size, bool)
        for carrier in made.planted:
            flags[carrier.rows] = True
        planted = [_named(c, made.columns, rows) for c in made.planted]
        untold = [_named(c, made.columns, rows) for c in made.untold]
        told = planted or untold
        says = (
            f"no value carries a label against the other columns of {flags.size} rows; fewer than"
            f" {most_of_any(least)} planted rows may pass"
        )
        pairs = len(pairs_of(columns))
        if pairs > MOST_PAIRS:
            says += f"; of {pairs} pairs of columns {MOST_PAIRS} were looked at"
        if told:
            says = (
                f"{told[0]['rows']} of {told[0]['held']} rows with certain values of"
                f" {' and '.join(told[0]['columns'])} carry one label against their other columns"
            )
        if told and not planted:
            says += "; no other row tells whether this is a rule of nature"
        verdict: Verdict = "fail" if planted else "suspect" if untold else "clean"
        return Finding(
            self.name,
            verdict,
            Estimate.rate(int(flags.sum()), flags.size),
            says,
            severity=SEVERITY[verdict],
            p_value=float(np.exp(made.best)),
            columns=(*(told[0]["columns"] if told else ()), data.roles.one("label")),
            rows=scored_rows(
                data.row_ids.gather(rows.place),
                made.score,
                flagged=flags,
                p_values=np.exp(-made.score),
                reason="its values carry the label against the other columns",
            ),
            details={
                **(told[0] if told else {}),
                "triggers": planted,
                "untold": untold,
                "rules": [_named(c, made.columns, rows) for c in made.natural],
                "min_detectable": most_of_any(least),
                "min_detectable_kinds": {KINDS[family]: many for family, many in least.items()},
                "predicates": made.looked_at,
                "pairs": pairs,
                "pairs_looked_at": min(pairs, MOST_PAIRS),
            },
            remedy=REMEDY[verdict],
        )


def _named(carrier: Carrier, columns: list[Column], rows: Labelled) -> dict[str, Any]:
    """What a finding says of a predicate."""
    condition = where(columns, carrier.predicate)
    return {
        "where": condition,
        "predicate": condition,
        "columns": sorted({columns[c].name for c in carrier.predicate.columns}),
        "class": rows.names[carrier.label],
        "label": rows.names[carrier.label],
        "rows": carrier.rows.size,
        "held": carrier.held,
        "share": Estimate.rate(carrier.rows.size, carrier.held).to_json(),
        "log_p": carrier.log_p,
        "against": carrier.against,
        "moved": None if np.isnan(carrier.moved) else carrier.moved,
        "alone": None if np.isnan(carrier.alone) else carrier.alone,
    }
