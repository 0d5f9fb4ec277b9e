# SPDX-License-Identifier: Apache-2.0
"""Whether groups get the favourable label alike, with the uncertainty of small groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.parameters import OpenShare, PositiveInt
from datapipe.core.stage import Stage, Yield
from datapipe.measure.detection import benjamini_hochberg
from datapipe.measure.distributions import chi2_tail
from datapipe.measure.intervals import difference_of_rates, ratio_of_rates
from datapipe.stages.balance._counts import class_names, group_names, in_order

KIND = "balance.groups"
ALPHA = 0.05
SHOWN = 50
FEWEST_EXPECTED = 5
MOST_LABELS = 20


@dataclass(frozen=True)
class Cell:
    """One group's count of one label against everybody else's.

    Args:
        group: The group.
        rows: Rows of the group.
        hits: Rows of the group with the label.
        others: Rows outside the group.
        other_hits: Rows outside the group with the label.

    Example:
        >>> Cell("a", 10, 5, 20, 5).rate
        0.5
    """

    group: str
    rows: int
    hits: int
    others: int
    other_hits: int

    @property
    def rate(self) -> float:
        """Share of the group that has the label."""
        return self.hits / self.rows

    @property
    def p_value(self) -> float:
        """Pearson's test of the fourfold table, with Yates's correction where a cell is thin."""
        n, hits = self.rows + self.others, self.hits + self.other_hits
        expected = min(self.rows, self.others) * min(hits, n - hits) / n
        if expected == 0:
            return 1.0
        gap = abs(self.hits - self.rows * hits / n)
        if expected < FEWEST_EXPECTED:
            gap = max(0.0, gap - 0.5)
        spread = self.rows * self.others * hits * (n - hits) / n**3
        return min(1.0, chi2_tail(gap * gap / spread, 1))


@dataclass(frozen=True)
class GroupBalance(Stage):
    """Compares how often each group has the favourable label.

    *Method:* For every group against everybody else, the difference of the two rates with
    Newcombe's interval (statistical parity) and their ratio with Katz's (disparate impact), the
    p-values corrected over the groups (Benjamini-Hochberg). A group is suspect when the test
    rejects *and* even the near end of the ratio's interval lies outside `least_ratio` and its
    inverse, so a large sample does not make a small gap an alarm, nor a small group an accusation.
    *Assumes:* The label means the same for every group; rows are independent.
    *Choose it when:* Decisions about people are learnt from the label.
    *Fails when:* The label itself is unjust in the same way for all, or a proxy stands for the
    group: parity of labels says nothing about why.
    *Cost:* One pass over the label and the group columns.

    Args:
        favourable: The label that is good to have; empty for the last in order of two labels, and
            for each in turn where there are more.
        least_ratio: A ratio of rates below this, or above its inverse, counts as unlike, in (0, 1).
        fewest: Groups with fewer rows are listed but not judged, >= 1.

    Example:
        >>> import pyarrow as pa
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> groups, labels = ["a"] * 400 + ["b"] * 400, [1, 0] * 200 + [1, 0, 0, 0] * 100
        >>> data = Dataset.of(pa.table({"g": groups, "y": labels}), Roles.of(label="y", group="g"))
        >>> found = GroupBalance().run(data, Context(0, Path("."))).findings[0]
        >>> found.verdict, found.measure.value
        ('suspect', 0.5)

    References:
        Feldman et al., 2015, Certifying and removing disparate impact.
        Newcombe, 1998, Interval estimation for the difference between independent proportions.
        Katz et al., 1978, Obtaining confidence intervals for the risk ratio in cohort studies.
    """

    favourable: str = ""
    least_ratio: OpenShare = 0.8
    fewest: PositiveInt = 30

    name: ClassVar[str] = "balance.groups"
    version: ClassVar[str] = "2"
    raises_findings: ClassVar[tuple[str, ...]] = (KIND,)
    references: ClassVar[tuple[str, ...]] = (
        "Feldman et al., 2015, Certifying and removing disparate impact",
        "Newcombe, 1998, Interval estimation for the difference between independent proportions",
        "Katz et al., 1978, Obtaining confidence intervals for the risk ratio in cohort studies",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Compare the groups of every column with the role `group`, and of all of them together.

        Args:
            data: Rows, if possible with the roles `label` and `group`.
            context: Not used: there is no chance in it.

        Returns:
            One finding of kind `balance.groups` for each group column, and one for their
            intersections where there are several; the measure is the lowest rate of a group that
            is large enough over the highest.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> data = Dataset.of(pa.table({"y": [0, 1]}))
            >>> GroupBalance().run(data, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        for role in ("label", "group"):
            if role not in data.roles:
                return self.not_evaluated(f"no column plays the role {role!r}")
        labels = class_names(data.values("label"))
        if labels is None:
            return self.not_evaluated("the label is a quantity: it has no classes")
        columns = data.roles.all("group")
        frame = data.frame(columns)
        groups: dict[tuple[str, ...], pl.Series]
        groups = {(c,): group_names(frame[c]) for c in columns}
        if len(columns) > 1:
            joined = pl.DataFrame([g.alias(c[0]) for c, g in groups.items()])
            groups[columns] = joined.select(
                pl.concat_str(pl.all(), separator=" x ").alias("g")
            ).to_series()
        return Yield(findings=tuple(self._finding(c, g, labels) for c, g in groups.items()))

    def _finding(self, columns: tuple[str, ...], groups: pl.Series, labels: pl.Series) -> Finding:
        frame = pl.DataFrame({"group": groups, "label": labels}).drop_nulls()
        table = frame.group_by("group", "label").agg(pl.len().alias("rows"))
        wanted = self._favourable(in_order(table["label"].unique().to_list()))
        sizes = dict(frame.group_by("group").agg(pl.len().alias("rows")).iter_rows())
        judged = [g for g, k in sizes.items() if k >= self.fewest]
        if not wanted:
            return Finding.not_evaluated(KIND, self._no_label(labels), columns=columns)
        if len(judged) < 2:
            why = f"{len(judged)} groups have {self.fewest} or more rows; two are needed"
            return Finding.not_evaluated(KIND, why, columns=columns)
        cells = {label: list(_cells(table, sizes, label)) for label in wanted}
        tested = [
            (label, c) for label, many in cells.items() for c in many if c.rows >= self.fewest
        ]
        q_values = benjamini_hochberg([c.p_value for _, c in tested])
        unlike = [
            (label, cell)
            for (label, cell), q in zip(tested, q_values, strict=True)
            if q <= ALPHA and self._unlike(cell)
        ]
        label = self._worst_label(cells)
        listed = [
            _told(lab, cell, float(q)) for (lab, cell), q in zip(tested, q_values, strict=True)
        ]
        listed.sort(key=lambda line: line["q_value"])
        large = [c for c in cells[label] if c.rows >= self.fewest]
        return Finding(
            KIND,
            "suspect" if unlike else "clean",
            extremes(large)[1],
            _sentence(columns, label, large, len(unlike)),
            "medium" if unlike else "info",
            p_value=min(1.0, float(np.min(q_values))),
            columns=columns,
            details={
                "favourable": label,
                "parity_difference": extremes(cells[label])[0].to_json(),
                "parity_ratio": extremes(cells[label])[1].to_json(),
                "unlike": [{"label": lab, "group": cell.group} for lab, cell in unlike][:SHOWN],
                "groups": listed[:SHOWN],
                "small_groups": {g: k for g, k in sizes.items() if k < self.fewest},
                "cells": _cell_counts(table),
            },
            remedy="look at how these groups came to their labels before a model learns them"
            if unlike
            else "",
        )

    def _favourable(self, labels: list[str]) -> list[str]:
        if self.favourable:
            return [self.favourable] if self.favourable in labels and len(labels) > 1 else []
        if len(labels) < 2:
            return []
        return labels[-1:] if len(labels) == 2 else labels[:MOST_LABELS]

    def _no_label(self, labels: pl.Series) -> str:
        if self.favourable:
            return f"no row, or every row, has the label {self.favourable!r}"
        return f"{labels.drop_nulls().n_unique()} classes; two are needed"

    def _unlike(self, cell: Cell) -> bool:
        ratio = ratio_of_rates(cell.hits, cell.rows, cell.other_hits, cell.others)
        return ratio.high < self.least_ratio or ratio.low > 1 / self.least_ratio

    def _worst_label(self, cells: Mapping[str, list[Cell]]) -> str:
        """The label whose rates differ most among groups that are large enough."""

        def gap(label: str) -> float:
            rates = [c.rate for c in cells[label] if c.rows >= self.fewest]
            return max(rates) - min(rates)

        return max(cells, key=gap)


def extremes(cells: list[Cell]) -> tuple[Estimate, Estimate]:
    """The difference and the ratio between the groups with the highest and the lowest rate.

    The two groups are chosen by what is measured, so the intervals allow for every pair that
    could have been chosen (Bonferroni).

    Args:
        cells: One for each group, at least two.

    Returns:
        The highest rate minus the lowest, and the lowest over the highest.

    Example:
        >>> gap, ratio = extremes([Cell("a", 10, 5, 20, 5), Cell("b", 20, 5, 10, 5)])
        >>> gap.value, ratio.value
        (0.25, 0.5)
    """
    best, worst = max(cells, key=lambda c: c.rate), min(cells, key=lambda c: c.rate)
    pairs = len(cells) * (len(cells) - 1) // 2
    level = 1 - ALPHA / max(1, pairs)
    gap = difference_of_rates(best.hits, best.rows, worst.hits, worst.rows, level=level)
    ratio = ratio_of_rates(worst.hits, worst.rows, best.hits, best.rows, level=level)
    gap, ratio = (_at_joint_level(made, pairs) for made in (gap, ratio))
    return gap, ratio


def _at_joint_level(made: Estimate, pairs: int) -> Estimate:
    method = made.method if pairs == 1 else f"{made.method}, any of {pairs} pairs"
    return Estimate(made.value, made.low, made.high, made.n, method, 1 - ALPHA)


def _cells(table: pl.DataFrame, sizes: Mapping[str, int], label: str) -> Iterator[Cell]:
    found = table.filter(pl.col("label") == label)
    hits = dict(zip(found["group"], found["rows"], strict=True))
    total, total_hits = sum(sizes.values()), sum(hits.values())
    for group in in_order(list(sizes)):
        k, own = sizes[group], hits.get(group, 0)
        yield Cell(group, k, own, total - k, total_hits - own)


def _told(label: str, cell: Cell, q_value: float) -> dict[str, Any]:
    counts = (cell.hits, cell.rows, cell.other_hits, cell.others)
    return {
        "label": label,
        "group": cell.group,
        "rows": cell.rows,
        "rate": Estimate.rate(cell.hits, cell.rows).to_json(),
        "difference": difference_of_rates(*counts).to_json(),
        "ratio": ratio_of_rates(*counts).to_json(),
        "q_value": q_value,
    }


def _cell_counts(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows of each group and label, the emptiest first."""
    return table.sort("rows", "group", "label").head(SHOWN).to_dicts()


def _sentence(columns: tuple[str, ...], label: str, cells: list[Cell], unlike: int) -> str:
    best, worst = max(cells, key=lambda c: c.rate), min(cells, key=lambda c: c.rate)
    by = " x ".join(columns)
    told = f"label {label!r} by {by}: least in {worst.group!r}, most in {best.group!r}"
    return f"{told}; {unlike} groups are unlike the others" if unlike else f"{told}; within bounds"
