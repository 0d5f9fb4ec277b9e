# SPDX-License-Identifier: Apache-2.0
"""`LabelFlips`: labels that somebody moved, at random or from one class to another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict, scored_rows
from datapipe.core.parameters import OpenShare, PositiveShare, Range
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.features.label_copies import without_copies
from datapipe.measure.crossfit import Refit, recalled, refit, telling
from datapipe.measure.detection import (
    benjamini_hochberg,
    beta_binomial_tail,
    binomial_tail,
)
from datapipe.measure.kernel import WIDTHS
from datapipe.measure.noise_floor import FEW, NoiseFloor, noise_floor
from datapipe.stages.poisoning._labelled import (
    FEWEST_ROWS,
    UNREADABLE,
    Labelled,
    Learner,
    beside,
    labelled,
    learner,
)
from datapipe.stages.poisoning._withheld import withheld

TOLD = 1 / 3
"""Of each class this share of rows must be predicted, or hard rows pass for flips."""
WELL = 0.65
"""How far, from chance at 0 to certainty at 1, the mean share of a class that is predicted lies.

The labels that look wrong are taken out first: they are predicted by nobody. Below it, chance in
the labels themselves was taken for flips on clean tables (logistic labels at .57 to .61).
"""
SURELY = 0.8
"""The same, flips and all, below which a share falls so slowly that it may look level by nature."""
LEAST_PAIR = 5
"""Fewer flips between two classes than this name no pair."""
LEAST_CLASS = 30
"""Classes of fewer rows get no test of their own."""
OF_CLASS = 2.0
"""One class may by nature hold this many times the tolerance: some are harder to label."""
UNEVEN = 3.0
"""Natural unevenness: a pair may hold this many times its even share and still be random."""
STRENGTH = 20.0
MOST_NAMED = 10
SEVERITY: dict[Verdict, Severity] = {"fail": "high", "suspect": "low", "clean": "info"}
BLIND = "features tell too little of the classes: hard rows and flips look the same"
SOME = "the scores rank the labels that look wrong; lower `tolerance` where so many are too many"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class LabelFlips(Stage):
    """Finds flipped labels, says whether they are random or aimed, and whose they are.

    *Method:* two rounds of out-of-fold prediction, the second without the labels that the first
    contradicts. Hard rows grow rare as the model grows surer, flips do not: the share of labels
    that contradict however sure it is, of all rows and of each class, is held against `tolerance`
    by a likelihood ratio; among the surer half of each class's rows so is each other label alone,
    which tells a few flips from one class to another. Flagged rows are those likelier wrong than
    right; a pair of classes that holds more of them than an uneven chance allows is named. With a
    `source` or `annotator`, each is held against the others. Columns that copy the label are left
    out.
    *Assumes:* features tell the class of most rows. Where they do not, as in classes that overlap
    widely, hard rows and flips look alike, and nothing is judged; where they leave out a class
    among others that they tell, the verdict is *suspect*.
    *Choose it when:* labels come from people or sources that could gain by changing them.
    *Fails when:* flips are few (`min_detectable`): *clean* says how many labels look wrong within
    the tolerance, and is withheld while more may be; or follow a pattern in the features.
    *Cost:* 2 x `folds` fits, on 50,000 rows at most, summed twice; time linear in the rows.

    Args:
        folds: How many folds, >= 2.
        tolerance: Share of labels in [0, 1) that may be wrong by nature.
        alpha: Chance of an alarm on data within the tolerance, in (0, 1).
        most_unseen: Largest share of the rows, in (0, 1], that poison could hold without an
            alarm for the verdict to be *clean*; beyond it, *not_evaluated*.
        on_finding: What is done with flagged rows.

    Example:
        >>> from pathlib import Path
        >>> from datapipe.testing.worlds import digits_world
        >>> made = LabelFlips().run(digits_world(7).dataset(), Context(7, Path("."))).findings[0]
        >>> made.verdict, made.details["pattern"]
        ('fail', 'random')

    References:
        Northcutt, Jiang & Chuang, 2021, Confident learning; Biggio, Nelson & Laskov, 2011, Support
        vector machines under adversarial label noise.
    """

    folds: Annotated[int, Range(2)] = 5
    tolerance: Annotated[float, Range(0, 1, "[)")] = 0.02
    alpha: OpenShare = 0.05
    most_unseen: PositiveShare = 0.05
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "poisoning.flips"
    version: ClassVar[str] = "12"
    needs: ClassVar[tuple[str, ...]] = ("label",)
    raises_findings: ClassVar[tuple[str, ...]] = ("poisoning.flips",)
    extra: ClassVar[str] = "learn"
    references: ClassVar[tuple[str, ...]] = (
        "Northcutt, Jiang & Chuang, 2021, Confident learning",
        "Biggio, Nelson & Laskov, 2011, Support vector machines under adversarial label noise",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Look for flips and name their pair and their source.

        Args:
            data: Rows with the role `label`, and features by role or without one.
            context: Its seed deals the folds.

        Returns:
            One finding with a line for every labelled row.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> few = Dataset.of(pa.table({"x": [1.0, 2.0], "y": [0, 1]}), Roles.of(label="y"))
            >>> LabelFlips().run(few, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        data, copies = without_copies(data)
        rows = labelled(data, self.folds)
        model = None
        if not rows.why:
            alike = np.zeros(rows.labels.size, np.int64)
            model = learner(data, rows, self.folds, context, widths=WIDTHS, once=alike)
        if model is None:
            why = rows.why or UNREADABLE
            return Yield(findings=(beside(self.not_evaluated(why).findings[0], copies),))
        if model.rows.labels.size < FEWEST_ROWS:
            return self.not_evaluated(
                f"{model.rows.labels.size} of {rows.labels.size} rows are no copies,"
                f" {FEWEST_ROWS} are the least"
            )
        made = refit(model.predict, model.rows.labels, model.fold, len(rows.names))
        found = self._finding(data, rows.place, model, made)
        least = int(found.details["min_detectable"])
        found = withheld(found, least, rows.labels.size, self.most_unseen, "labels")
        return Yield(findings=(beside(_undecided(found, self.tolerance), copies),))

    def _finding(self, data: Dataset, place: Ints, model: Learner, made: Refit) -> Finding:
        rows, one = model.rows, model.one
        floors = _floors(rows.labels, made)
        floor = floors[0].estimate()
        tails = [f.p_value(self.tolerance * (OF_CLASS if i else 1)) for i, f in enumerate(floors)]
        whole = 2.0 * min(tails) * len(tails)
        moved = _moved(rows.labels, made.second, self.tolerance)
        p_value = min(1.0, whole, 2.0 * float(moved.min()))
        found = p_value <= self.alpha
        likely = made.posterior.likeliest
        pair = 2.0 * moved[made.second.argmax(1), rows.labels] <= self.alpha
        aside = np.bincount(rows.labels[pair], minlength=len(rows.names))
        untold, blind = _untold(rows, made.first, floor.low, aside)
        flags = (made.posterior.error > 0.5) & (found and not untold)
        if whole > self.alpha:  # only those pairs are accused
            flags &= 2.0 * moved[likely, rows.labels] <= self.alpha
        pairs, n = _pairs(rows, likely, flags), one.size
        copied = _copied(one, made.posterior.error > 0.5, self.tolerance)
        copied &= not (found or blind)
        marked = (flags | copied)[one]
        aimed = [p for p in pairs if p["p_value"] <= self.alpha]
        pattern = ("targeted" if aimed else "random") if found and not blind else "none"
        suggested = pl.select(
            pl.when(pl.Series(marked)).then(pl.Series(rows.names).gather(likely[one]))
        ).to_series()
        verdict: Verdict = "clean"
        says, measure = _within(floor, n, self.tolerance), floor
        if found:
            verdict = "suspect" if untold else "fail"
            says, measure = _says(int(marked.sum()), n, aimed), _share(marked, one)
        elif copied.any():
            verdict, measure = "suspect", _share(marked, one)
            says = (
                f"{int(marked.sum())} of {n} labels look wrong, on copies of {int(copied.sum())}"
                f" row{'s' if copied.sum() > 1 else ''}"
            )
        if found and untold:
            says = (
                "more labels contradict the surest predictions than nature allows, but features do"
                f" not tell {len(untold)} of {len(rows.names)} classes: hard rows look the same"
            )
        told = Finding(
            self.name,
            verdict,
            measure,
            says,
            severity="low" if verdict == "clean" and floor.low > 0 else SEVERITY[verdict],
            p_value=None if copied.any() else p_value,
            columns=(data.roles.one("label"),),
            rows=scored_rows(
                data.row_ids.gather(place),
                made.posterior.error[one],
                flagged=marked,
                reason="the label looks flipped",
                suggested=suggested,
            ),
            details={
                "pattern": pattern,
                "pair": [aimed[0]["from"], aimed[0]["to"]] if aimed else [],
                "pairs": pairs[:MOST_NAMED],
                "sources": _accused(data, place, one, made.posterior.error > 0.5, self.alpha),
                "floor": floor.to_json(),
                "untold": untold[:MOST_NAMED],
                "min_detectable": self._fewest_detectable(floor, n),
            },
            remedy="set on_finding='quarantine' or 'relabel', and ask who labelled"
            if found or copied.any()
            else SOME
            if floor.low > 0
            else "",
        )
        if blind:  # its level holds only where sure predictions are worth something
            return replace(told.withdrawn(BLIND), p_value=None, remedy="")
        return told

    def _fewest_detectable(self, floor: Estimate, n: int) -> int:
        """About how many flips, spread evenly, would have raised the alarm."""
        return min(n, int(np.ceil((self.tolerance + 2.0 * (floor.high - floor.value)) * n)))


def _undecided(found: Finding, tolerance: float) -> Finding:
    """The finding, as *not evaluated* where it says *clean* and the tolerance may be exceeded.

    Some labels are then shown to be wrong. Where none is, `most_unseen` says what may go unseen.
    """
    floor = found.details["floor"]
    if found.verdict != "clean" or floor["low"] <= 0 or floor["high"] <= tolerance:
        return found
    why = (
        f"{floor['low']:.1%} to {floor['high']:.1%} of the labels contradict the surest"
        f" predictions, and {tolerance:.1%} may by nature: neither more nor fewer is shown"
    )
    n = 0 if found.rows is None else found.rows.height
    return found.withdrawn(why, method=f"underpowered: {why}", n=n)


def _floors(labels: Ints, made: Refit) -> list[NoiseFloor]:
    """The share of labels no doubt of the model explains: of all rows, then by likely class.

    Where classes are told badly, only of all rows: one that lies between two others is contradicted
    by both, however sure the model is of it, and its few rows do not show how that falls.
    """
    chosen = made.first.argmax(1)
    if telling(labels, made.first).value < SURELY:
        return [noise_floor(labels, made.first, both=True)]
    every = [noise_floor(labels, made.first)]
    for k in np.unique(chosen):
        own = chosen == k
        if own.sum() >= LEAST_CLASS:
            every.append(noise_floor(labels[own], made.first[own]))
    return every


def _untold(
    rows: Labelled, probabilities: Floats, wrong: float, pairs: Ints
) -> tuple[list[str], bool]:
    """Classes that features do not tell, and whether they tell too little of all of them.

    Nobody can say what a wrong label is of a class of which few rows are predicted, and of any
    where predictions are hardly better than chance: how sure they are is then chance as well.
    """
    right = _right(rows.labels, probabilities, wrong, pairs)
    scale = 1.0 - 1.0 / right.size
    plain = telling(rows.labels, probabilities).value
    well = plain >= WELL * (1.0 - wrong / scale) or _telling(right) >= WELL
    held = np.bincount(rows.labels, minlength=right.size)
    weak = ((held >= LEAST_CLASS) & (right < TOLD)) | (not well)
    return [rows.names[i] for i in np.flatnonzero(weak)], not well


def _right(labels: Ints, probabilities: Floats, wrong: float, pairs: Ints) -> Floats:
    """Of each class the share of rows that is predicted, shape (K,), less what is shown wrong.

    A small class may be given to more rows by flips than by nature: then few of its rows are
    predicted, however well features tell it. Shown is the share `wrong` of all labels, dealt to
    classes as contradictions are, and what pairs moved, labels by class, to classes that features
    do tell: rows are predicted to be of them, and mostly are.
    """
    recall, held = recalled(labels, probabilities)
    missed = (1.0 - recall) * held
    seen = np.bincount(probabilities.argmax(1), minlength=recall.size)
    known = (recall * held >= LEAST_PAIR) & (recall * held >= (1.0 - TOLD) * seen)
    shown = wrong * labels.size * missed / max(float(missed.sum()), 1.0)
    shown = np.where(known, np.maximum(shown, pairs), shown)
    return np.asarray(recall * held / np.maximum(held - np.minimum(shown, missed), 1.0), np.float64)


def _telling(right: Floats) -> float:
    """The mean share, from 0 for guessing to 1 for certainty."""
    return float((right.mean() - 1.0 / right.size) / (1.0 - 1.0 / right.size))


def _moved(labels: Ints, probabilities: Floats, tolerance: float) -> Floats:
    """For each likely class and given label, how likely so many sure contradictions are by nature.

    Shape (K, K), corrected for all pairs. Among the surer half of a class one label may by nature
    be wrong in `UNEVEN` times its even share of the tolerance. That all others together keep to it
    shows that features tell the class; two classes show nothing of the kind. Where many labels
    contradict, classes overlap, and a pair must hold more than it does the other way round. The
    probabilities are of the second round: a pair that holds a tenth of its class makes the first
    unsure of all of it.
    """
    k = probabilities.shape[1]
    likely, sure = probabilities.argmax(1), probabilities.max(1)
    made = np.ones((k, k))
    if k == 2:
        return made
    allowed = tolerance * min(1.0, UNEVEN / (k - 1))
    back = np.zeros((k, k))
    if (likely != labels).mean() > FEW:
        np.add.at(back, (labels, likely), 1.0)  # [i, j]: likely j, but given i
        back = (back + 1.0) / (back.sum(0) + k)
    for own in range(k):
        rows = np.flatnonzero(likely == own)
        if rows.size < LEAST_CLASS:
            continue
        surer = sure[rows] >= np.median(sure[rows])
        given = labels[rows[surer]]
        counts = np.bincount(given, minlength=k)
        below = np.bincount(labels[rows[~surer]], minlength=k)
        wrong = given.size - counts[own]
        for other in np.flatnonzero(counts >= LEAST_PAIR):
            rare = wrong - counts[other] <= tolerance * given.size + 1.0
            level = 2 * counts[other] >= below[other]
            if other != own and rare and level:
                nature = max(allowed, float(back[own, other]))
                tail = binomial_tail(int(counts[other]), given.size, nature)
                made[own, other] = min(1.0, tail * k * (k - 1))
    return made


def _pairs(rows: Labelled, likely: Ints, flags: Bools) -> list[dict[str, Any]]:
    """Which class was moved to which, the fullest pair first, each held against an even share."""
    k = len(rows.names)
    pairs, counts = np.unique(likely[flags] * k + rows.labels[flags], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    total, even = int(counts.sum()), min(1.0, UNEVEN / (k * (k - 1)))
    told = []
    for pair, count in zip(pairs[order].tolist(), counts[order].tolist(), strict=True):
        tail = binomial_tail(count, total, even) if count >= LEAST_PAIR else 1.0
        told.append(
            {
                "from": rows.names[pair // k],
                "to": rows.names[pair % k],
                "rows": count,
                "p_value": min(1.0, tail * k * (k - 1)),
            }
        )
    return told


def _copied(one: Ints, wrong: Bools, tolerance: float) -> Bools:
    """Which rows have copies that make more of the labels wrong than may be.

    Copies are one witness, but as many labels. Where all rows are copied alike they add nothing;
    what counts is by how much copies contradict more often than rows do, over all labels.
    """
    more = np.bincount(one) - 1
    excess = float((more * wrong).sum()) - float(wrong.mean()) * float(more.sum())
    return wrong & (more > 0) & (excess > tolerance * one.size)


def _share(flags: Bools, one: Ints) -> Estimate:
    """The share of rows flagged, known as well as from as many rows without copies (Kish)."""
    copies = np.bincount(one).astype(np.float64)
    n = round(float(copies.sum() ** 2 / np.square(copies).sum()))
    return Estimate.rate(round(float(flags.mean()) * n), n)


def _accused(
    data: Dataset, place: Ints, one: Ints, wrong: Bools, alpha: float
) -> list[dict[str, Any]]:
    """Sources or annotators whose labels contradict more often than the others' do.

    Copies of a row count once for each who brought them.
    """
    role = next((r for r in ("source", "annotator") if r in data.roles), "")
    if not role or data.types[data.roles.one(role)].is_nested():
        return []
    who = data.values(role).gather(place)
    frame = pl.DataFrame({"who": who, "one": one, "wrong": wrong[one]}).unique()
    counts = frame.drop_nulls().group_by("who").agg(pl.len().alias("n"), pl.sum("wrong"))
    counts = counts.sort("who")
    n, hits = counts["n"].to_numpy(), counts["wrong"].to_numpy()
    if n.size < 2:
        return []
    rates = (hits.sum() - hits + 1.0) / (n.sum() - n + 2.0)
    tails = [
        beta_binomial_tail(int(h), int(m), STRENGTH * r, STRENGTH * (1 - r))
        for h, m, r in zip(hits, n, rates, strict=True)
    ]
    q_values = benjamini_hochberg(tails)
    worst = [int(i) for i in np.argsort(q_values, kind="stable") if q_values[i] <= alpha]
    return [
        {
            "column": data.roles.one(role),
            "number": i,
            "rows": int(n[i]),
            "flagged": int(hits[i]),
            "q_value": float(q_values[i]),
        }
        for i in worst[:MOST_NAMED]
    ]


def _within(floor: Estimate, n: int, tolerance: float) -> str:
    """What *clean* means: how many labels may be wrong all the same."""
    allowed = f"{tolerance:.1%} of {n} labels may be wrong by nature (`tolerance`)"
    if floor.low <= 0:
        return f"at most {floor.high:.1%} look wrong, and up to {allowed}"
    shown = f"about {floor.value:.1%} ({floor.low:.1%} to {floor.high:.1%}) look wrong"
    return f"{shown}, and up to {allowed}"


def _says(flagged: int, n: int, aimed: list[dict[str, Any]]) -> str:
    if aimed:
        pair = f"{aimed[0]['from']!r} to {aimed[0]['to']!r}"
        return f"{flagged} of {n} labels look flipped, mostly from {pair}"
    return f"{flagged} of {n} labels look flipped, with no aim"
