# SPDX-License-Identifier: Apache-2.0
"""How evenly the classes of the label are filled, and whether each has enough rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict
from datapipe.core.parameters import OpenShare, Positive, PositiveInt, Range
from datapipe.core.stage import Stage, Yield
from datapipe.measure.distributions import chi2_tail
from datapipe.measure.intervals import clopper_pearson, rows_for_margin
from datapipe.stages.balance._counts import class_names, in_order

KIND = "balance.classes"
SHOWN = 50
RECALL_EXPECTED = 0.9
"""The recall for which the rows of a test set are planned."""
ALPHA = 0.05

SEVERITY: dict[Verdict, Severity] = {"clean": "info", "suspect": "medium", "fail": "high"}

Counts = Mapping[str, int]


@dataclass(frozen=True)
class ClassBalance(Stage):
    """Counts the classes of the label and says which are too thin.

    *Method:* Exact (Clopper-Pearson) intervals for every class's share, at a joint level over the
    classes; a class is thin when its share is below `least` times the expected one and even the
    upper end stays below the expected one: large enough to matter, and no chance.
    Beside it the imbalance ratio, the entropy-effective number of classes, and how many rows a
    class needs in a test set for its recall to be known within `margin`.
    *Assumes:* Rows are independent draws; the expected share is the target's, or equal shares.
    *Choose it when:* A model is trained or judged by class.
    *Fails when:* The label is a quantity (not evaluated), or rows come in clusters, which makes
    every interval too narrow.
    *Cost:* One pass over the label.

    Args:
        least: A class is thin below this part of its expected share, in (0, 1).
        fewest: A class with fewer rows can be neither learnt nor judged, >= 1.
        margin: Half-width wanted for the recall of a class, in (0, 0.5).
        target: Expected share of each class; empty for equal shares, without a test of them.

    Example:
        >>> import pyarrow as pa
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> data = Dataset.of(pa.table({"y": ["a"] * 900 + ["b"] * 60}), Roles.of(label="y"))
        >>> found = ClassBalance().run(data, Context(0, Path("."))).findings[0]
        >>> found.verdict, found.details["thin"]
        ('suspect', ['b'])

    References:
        Clopper & Pearson, 1934, The use of confidence or fiducial limits.
        Hill, 1973, Diversity and evenness: a unifying notation and its consequences.
        He & Garcia, 2009, Learning from imbalanced data.
    """

    least: OpenShare = 0.5
    fewest: PositiveInt = 10
    margin: Annotated[float, Range(0, 0.5, "()")] = 0.05
    target: tuple[tuple[str, Positive], ...] = ()

    name: ClassVar[str] = "balance.classes"
    version: ClassVar[str] = "2"
    raises_findings: ClassVar[tuple[str, ...]] = (KIND,)
    references: ClassVar[tuple[str, ...]] = (
        "Clopper & Pearson, 1934, The use of confidence or fiducial limits",
        "Hill, 1973, Diversity and evenness: a unifying notation and its consequences",
        "He & Garcia, 2009, Learning from imbalanced data",
    )

    def check(self) -> list[str]:
        """Problems with the parameters.

        Returns:
            A sentence for each problem.

        Example:
            >>> ClassBalance(target=(("a", 0.7),)).check()
            ['balance.classes: the shares of target must sum to 1']
        """
        if wrong := super().check():
            return wrong
        shares = [share for _, share in self.target]
        if shares and not math.isclose(sum(shares), 1, abs_tol=1e-6):
            wrong.append(f"{self.name}: the shares of target must sum to 1")
        return wrong

    def run(self, data: Dataset, context: Context) -> Yield:
        """Count the classes.

        Args:
            data: Rows, if possible with the role `label`.
            context: Not used: there is no chance in it.

        Returns:
            One finding of kind `balance.classes`; its measure is the ratio of the fullest to the
            thinnest class.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> unlabelled = Dataset.of(pa.table({"x": [1, 2]}))
            >>> ClassBalance().run(unlabelled, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        if "label" not in data.roles:
            return self.not_evaluated("no column plays the role 'label'")
        column = data.roles.one("label")
        names = class_names(data.values("label"))
        if names is None:
            kind = data.types[column]
            holds = f"holds {kind}, not one value a row" if kind.is_nested() else "is a quantity"
            why = f"the label {holds}: it has no classes"
            return self.not_evaluated(why, columns=(column,))
        counts = _counted(names, [name for name, _ in self.target])
        if len(counts) < 2:
            why = f"{len(counts)} classes among {len(data)} rows; two are needed"
            return self.not_evaluated(why, columns=(column,))
        due = self.fewest * len(counts)
        if sum(counts.values()) < due:  # however they were dealt, some class would be too thin
            why = f"{sum(counts.values())} rows of {len(counts)} classes; at least {due} are needed"
            return self.not_evaluated(why, columns=(column,))
        return Yield(findings=(self._finding(counts, len(data), column),))

    def _finding(self, counts: Counts, rows: int, column: str) -> Finding:
        n = sum(counts.values())
        expected = dict(self.target) or dict.fromkeys(counts, 1 / len(counts))
        joint = 1 - 2 * ALPHA / len(counts)  # one-sided, over all classes
        bounds = {name: clopper_pearson(k, n, level=joint) for name, k in counts.items()}
        short = [name for name, k in counts.items() if k < self.fewest]
        thin, over = [], []
        for name, share in bounds.items():
            due = expected.get(name, 0.0)
            if share.value < self.least * due and share.high < due:
                thin.append(name)
            elif self.target and share.value * self.least > due and share.low > due:
                over.append(name)
        needed = rows_for_margin(RECALL_EXPECTED, self.margin)
        # Long tails are natural; only a declared target makes an empty class a broken promise.
        broken = bool(short) and bool(self.target)
        verdict: Verdict = "fail" if broken else "suspect" if short or thin or over else "clean"
        ratio = imbalance_ratio(max(counts.values()), min(counts.values()), n)
        return Finding(
            KIND,
            verdict,
            ratio,
            _sentence(counts, short, thin, over, self.fewest),
            SEVERITY[verdict],
            p_value=goodness_of_fit(counts, expected) if self.target else None,
            columns=(column,),
            details={
                "classes": _listed(counts, n),
                "n_classes": len(counts),
                "unlabelled": rows - n,
                "too_few": short,
                "thin": thin,
                "overfull": over,
                "effective_classes": effective_classes(list(counts.values())).to_json(),
                "test_rows_needed": needed,
                "margin": self.margin,
                "below_test_rows": [name for name, k in counts.items() if k < needed],
            },
            remedy="collect or weight the thin classes, or judge by balanced figures"
            if verdict != "clean"
            else "",
        )


def imbalance_ratio(most: int, least: int, n: int, *, level: float = 0.95) -> Estimate:
    """The ratio of the fullest to the thinnest class, with an interval on the log scale.

    Args:
        most: Rows of the fullest class, >= 1.
        least: Rows of the thinnest class; 0 leaves the ratio unbounded.
        n: Rows in all classes.
        level: Coverage of the interval, in (0, 1).

    Returns:
        A ratio of at least 1.

    Example:
        >>> imbalance_ratio(900, 100, 1000).value
        9.0

    References:
        Agresti, 2013, Categorical data analysis, section 3.1.
    """
    if least == 0:
        low = most / (least + 3.7)  # no row seen in n: below 3.7 expected, at 95 % (Poisson)
        return Estimate(math.inf, min(low, math.inf), math.inf, n, "log odds of two cells", level)
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(1 / most + 1 / least)
    ratio = most / least
    low, high = max(1.0, ratio * math.exp(-half)), ratio * math.exp(half)
    return Estimate(ratio, min(low, ratio), high, n, "log odds of two cells", level)


def effective_classes(counts: list[int], *, level: float = 0.95) -> Estimate:
    """The number of equally full classes that would be as hard to guess.

    The exponential of the entropy, with Miller's correction of its bias and an interval from the
    delta method.

    Args:
        counts: Rows of each class, >= 0, not all 0.
        level: Coverage of the interval, in (0, 1).

    Returns:
        A figure between 1 and the number of classes.

    Example:
        >>> round(effective_classes([500, 500]).value, 6)
        2.0

    References:
        Miller, 1955, Note on the bias of information estimates.
    """
    k = np.asarray(counts, np.float64)
    n, filled = float(k.sum()), k[k > 0] / k.sum()
    logs: NDArray[np.float64] = np.log(filled)
    entropy = float(-(filled * logs).sum())
    bias = (filled.size - 1) / (2 * n)
    spread = max(0.0, float((filled * logs**2).sum()) - entropy**2) / n + bias / n
    most = math.log(k.size)
    centre = min(entropy + bias, most)
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(spread)
    low, high = max(0.0, centre - half), min(most, centre + half)
    value, least, highest = (min(math.exp(h), float(k.size)) for h in (centre, low, high))
    return Estimate(value, least, highest, int(n), "entropy, delta method", level)


def goodness_of_fit(counts: Counts, expected: Mapping[str, float]) -> float:
    """The p-value of Pearson's test that classes have their expected shares.

    Args:
        counts: Rows of each class.
        expected: Share of each class; a class that is not expected but seen gives 0.

    Returns:
        A probability.

    Example:
        >>> goodness_of_fit({"a": 50, "b": 50}, {"a": 0.5, "b": 0.5})
        1.0

    References:
        Pearson, 1900, On the criterion that a given system of deviations is such that it can be
        reasonably supposed to have arisen from random sampling.
    """
    n = sum(counts.values())
    if any(counts[name] and name not in expected for name in counts):
        return 0.0
    gaps = [(counts.get(c, 0) - n * share) ** 2 / (n * share) for c, share in expected.items()]
    return min(1.0, chi2_tail(sum(gaps), len(gaps) - 1)) if len(gaps) > 1 else 1.0


def _counted(names: pl.Series, expected: list[str]) -> dict[str, int]:
    """Rows of each class, in order; expected classes without a row count 0."""
    table = names.drop_nulls().rename("name").value_counts()
    found = dict(zip(table["name"], table["count"], strict=True))
    return {name: int(found.get(name, 0)) for name in in_order([*{*found, *expected}])}


def _listed(counts: Counts, n: int) -> list[dict[str, Any]]:
    """The thinnest classes first, each share with its exact interval."""
    thinnest = sorted(counts.items(), key=lambda item: item[1])[:SHOWN]
    return [
        {"name": name, "rows": k, "share": clopper_pearson(k, n).to_json()} for name, k in thinnest
    ]


def _sentence(
    counts: Counts, short: list[str], thin: list[str], over: list[str], fewest: int
) -> str:
    name, k = min(counts.items(), key=lambda item: item[1])
    told = (
        f"{len(counts)} classes; the thinnest, {name!r}, has {k:,} of {sum(counts.values()):,} rows"
    )
    if short:
        told += f"; {len(short)} have fewer than {fewest}"
    if thin:
        told += f"; {len(thin)} are thinner than they should be"
    if over:
        told += f"; {len(over)} are fuller than they should be"
    return told
