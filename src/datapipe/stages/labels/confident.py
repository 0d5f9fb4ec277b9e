# SPDX-License-Identifier: Apache-2.0
"""`ConfidentLearning`: labels that contradict what the rest of the data says of their row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict, scored_rows
from datapipe.core.parameters import Range, Share
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.features.label_copies import without_copies
from datapipe.stages.labels._brought import judged_by_columns
from datapipe.stages.labels._judging import Judgement, Labelled, judged_by_fit, labelled
from datapipe.stages.labels._leak import LEAK, leak
from datapipe.stages.labels._parts import PartsJudged, judged_parts, kind_of

Kind = Literal["auto", "class", "multilabel", "tokens", "boxes", "value"]
Classifier = Literal["auto", "kernel", "linear", "boosted"]
Rule = Literal["auto", "posterior", "prune"]
Score = Literal["auto", "posterior", "self_confidence", "margin"]
CONTRADICTS = "the label contradicts the features"
SURE = 0.9
"""From this probability on another class is told to be sure."""
OFTEN_ROWS, OFTEN_SHARE = 5, 0.05
"""So many flagged rows, and such a share of them, make a pair of classes often confused."""
SEVERITY: dict[str, Severity] = {"fail": "high", "suspect": "medium"}
CHANCE = 0.1
"""Features that may tell labels no better than this, from guessing at 0 to certainty at 1, cannot
say which of them are wrong."""
MOST_PAIRS = 10
"""Class pairs named in a finding."""


@dataclass(frozen=True)
class ConfidentLearning(Stage):
    """Finds wrong labels with out-of-fold predictions and estimates how many there are.

    *Method:* a classifier predicts every row out of fold; rows that confident learning would prune
    are left out; the classifier is fitted again and a transition matrix between true and given
    labels is learnt by EM. A label is an issue when it is likelier wrong than right. With
    `rule="prune"`, the default where `probabilities` are given, the issues are exactly those of
    cleanlab's `prune_by_noise_rate`. The noise rate is bracketed without an audit: from below by
    the share of labels that contradict however sure the model is, from above by the confident
    joint.
    Given predictions may also judge sets of classes, token sequences, boxes and values (`kind`),
    with the masks and scores of cleanlab's modules for them.
    *Assumes:* features say something about the class, and errors differ from row to row; where
    they tell labels hardly better than a guess, the noise is *suspect* and no row is accused.
    A column of a table that copies the label (one value for each class) is named and left out.
    *Choose it when:* each row has one label and there is no second opinion.
    *Fails when:* classes overlap (hard rows look wrong: read the interval), wrong labels are a
    function of the features (a trigger: see `poisoning.trigger_image`), or a class is mislabelled
    as a whole.
    *Cost:* 2 x `folds` fits, twice that to choose a classifier; O(n K) memory.

    Args:
        folds: How many folds, >= 2.
        classifier: `kernel` (Gaussian kernel least squares), `linear` (logistic regression),
            `boosted` (boosted trees; texts stay linear) or `auto`: linear for texts, else kernel
            or linear, whichever makes the given labels likelier.
        probabilities: Columns with out-of-fold class probabilities, one a class; a name with `*`
            stands for all that match; one list column will do. Empty fits a classifier.
        rule: Which rows are issues: `posterior`, `prune`, or `auto`: prune where probabilities
            are given, else the posterior.
        score: How rows are ranked: `posterior` (with given probabilities that of the noise model
            under which left-out labels are likeliest), `self_confidence` or `margin`; `auto` is
            `posterior`.
        kind: What a label is: a `class`; `multilabel`, a list of classes; `tokens`, a list with one
            class a token and one list of probabilities each; `boxes`, a list of `{label, box}` with
            one column of predicted `{label, box, score}`, boxes as [x1, y1, x2, y2] in pixels;
            `value`, a number, with one column of out-of-fold predictions. `auto` tells lists by
            their type and takes the rest as classes.
        tolerance: Noise rate in [0, 1] up to which labels count as clean; 0 flags every issue.
        fail_above: Noise rate in [0, 1] from which the verdict is `fail`.
        on_finding: What is done with flagged rows.

    Example:
        >>> from pathlib import Path
        >>> from datapipe.testing.worlds import digits_world
        >>> stage = ConfidentLearning(classifier="kernel")
        >>> made = stage.run(digits_world(7).dataset(), Context(7, Path(".")))
        >>> [(f.kind, f.verdict) for f in made.findings]
        [('labels.noise', 'fail'), ('labels.issues', 'fail')]

    References:
        Northcutt, Jiang & Chuang, 2021, Confident learning: estimating uncertainty in dataset
        labels.
    """

    folds: Annotated[int, Range(2)] = 5
    classifier: Classifier = "auto"
    probabilities: tuple[str, ...] = ()
    rule: Rule = "auto"
    score: Score = "auto"
    kind: Kind = "auto"
    tolerance: Share = 0.01
    fail_above: Share = 0.05
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "labels.confident"
    version: ClassVar[str] = "10"
    needs: ClassVar[tuple[str, ...]] = ("label",)
    raises_findings: ClassVar[tuple[str, ...]] = ("labels.noise", "labels.issues", LEAK)
    extra: ClassVar[str] = "learn"
    references: ClassVar[tuple[str, ...]] = (
        "Northcutt, Jiang & Chuang, 2021, Confident learning",
        "Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates",
        "Tkachenko, Thyagarajan & Mueller, 2023, ObjectLab, arXiv:2309.00832",
    )

    def check(self) -> list[str]:
        """Problems with the parameters.

        Returns:
            A sentence for each problem.

        Example:
            >>> ConfidentLearning(folds=1).check()
            ['labels.confident: folds=1 must be at least 2']
        """
        if wrong := super().check():
            return wrong
        if self.tolerance > self.fail_above:
            wrong.append(
                f"{self.name}: tolerance={self.tolerance} is above fail_above={self.fail_above}"
            )
        if self.kind not in ("auto", "class") and not self.probabilities:
            wrong.append(f"{self.name}: kind={self.kind!r} needs probabilities, none are named")
        return wrong

    def run(self, data: Dataset, context: Context) -> Yield:
        """Score every labelled row and estimate the noise rate.

        Args:
            data: Rows with the role `label`, and features by role or without one.
            context: Its seed deals the folds.

        Returns:
            Two findings, `labels.noise` and `labels.issues`; the latter holds the rows. Where
            columns of a table copy the label, a third, `labels.leak`, names them.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> few = Dataset.of(pa.table({"x": [1.0, 2.0], "y": [0, 1]}), Roles.of(label="y"))
            >>> ConfidentLearning().run(few, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        copies: list[str] = []
        if not self.probabilities:
            data, copies = without_copies(data)
        made = [f for f in self._look(data, context).findings if f.kind != LEAK]
        if copies:
            made.append(leak(copies, data.roles.one("label"), len(data)))
        return Yield(findings=tuple(made))

    def _look(self, data: Dataset, context: Context) -> Yield:
        """Judge the labels by all columns that are there."""
        column = data.roles.one("label")
        kind = kind_of(data, self.probabilities) if self.kind == "auto" else self.kind
        if kind != "class":
            return self._parts(data, kind, column)
        if self.probabilities:
            rows = labelled(data.values("label"), 1, 1)
        else:
            rows = labelled(data.values("label"), self.folds)
        if isinstance(rows, str):
            return self.not_evaluated(rows, (column,))
        if self.probabilities:
            judged = judged_by_columns(data, rows, self.probabilities, context)
        else:
            judged = judged_by_fit(
                data, rows, context, folds=self.folds, classifier=self.classifier
            )
        if isinstance(judged, str):
            return self.not_evaluated(judged, (column,))
        issues = self._issues(judged)
        noise = _noise_rate(judged, issues)
        verdict = self._verdict(judged.floor, int(issues.sum()))
        if verdict != "clean" and judged.telling is not None and judged.telling.low < CHANCE:
            told = _Told(column, rows, judged, "suspect", self.tolerance)
            flags, scores = np.zeros(issues.size, bool), self._scores(judged)
            found = (told.noise(noise), told.issues(flags, scores, data.row_ids))
            return Yield(findings=_nearly_guessed(*found, judged.telling))
        if verdict == "clean":
            issues = np.zeros(issues.size, bool)
        told = _Told(column, rows, judged, verdict, self.tolerance)
        found = (told.noise(noise), told.issues(issues, self._scores(judged), data.row_ids))
        return Yield(findings=self._withheld(*found, judged.floor))

    def _parts(self, data: Dataset, kind: str, column: str) -> Yield:
        """The findings about labels that are sets, sequences or values."""
        if not self.probabilities:
            why = "labels that are lists are judged by given probabilities only, and none are named"
            return self.not_evaluated(why, (column,))
        judged = judged_parts(data, kind, self.probabilities)
        if isinstance(judged, str):
            return self.not_evaluated(judged, (column,))
        verdict = self._verdict(judged.floor, int(judged.flags.sum()))
        found = _told_of_parts(judged, verdict, column, data)
        return Yield(findings=self._withheld(*found, judged.floor))

    def _issues(self, judged: Judgement) -> NDArray[np.bool_]:
        rule = self.rule
        if rule == "auto":
            rule = "prune" if self.probabilities else "posterior"
        return judged.pruned if rule == "prune" else judged.error > 0.5

    def _scores(self, judged: Judgement) -> NDArray[np.float64]:
        """How doubtful each label is, in [0, 1]."""
        if self.score in ("auto", "posterior"):
            return judged.error
        if self.score == "self_confidence":
            return np.clip(1.0 - judged.own, 0.0, 1.0)
        return np.clip((1.0 - (judged.own - judged.rival)) / 2.0, 0.0, 1.0)

    def _verdict(self, floor: Estimate, issues: int) -> Verdict:
        """Only labels that contradict however sure the model is count against the data."""
        if floor.low > self.fail_above:
            return "fail"
        strict = self.tolerance == 0 and issues > 0
        return "suspect" if strict or floor.low > self.tolerance else "clean"

    def _withheld(
        self, noise: Finding, issues: Finding, floor: Estimate
    ) -> tuple[Finding, Finding]:
        """No *clean* where what would be a *fail* may be there, and nothing would show it."""
        n, high = noise.measure.n, noise.measure.high
        least = _fewest_detectable(floor, self.tolerance, n)
        failing = self.fail_above * n
        if noise.verdict != "clean" or least <= failing or high <= self.fail_above:
            return noise, issues
        why = f"up to {high:.1%} of {n} may be wrong, and fewer than {least} would not show"
        noise = replace(noise.withdrawn(why), measure=Estimate.unknown(0.0, high, method=why, n=n))
        return noise, issues.withdrawn(why)


@dataclass(frozen=True, eq=False)
class _Told:
    """The two findings of one judgement."""

    column: str
    rows: Labelled
    judged: Judgement
    verdict: Verdict
    tolerance: float

    def noise(self, rate: Estimate) -> Finding:
        return Finding(
            "labels.noise",
            self.verdict,
            rate,
            _bracket(rate, "labels"),
            severity=self._severity(),
            columns=(self.column,),
            details={
                **self.judged.details,
                **(
                    {}
                    if self.judged.telling is None
                    else {"telling": self.judged.telling.to_json()}
                ),
                "floor": self.judged.floor.to_json(),
                "confident_joint_rate": self.judged.joint_rate,
                "min_detectable": _fewest_detectable(self.judged.floor, self.tolerance, rate.n),
                "left_out": dict(self.rows.left_out),
                "classes": len(self.rows.names),
            },
            remedy=""
            if self.verdict == "clean"
            else "have a sample of the flagged rows relabelled",
        )

    def issues(
        self, flags: NDArray[np.bool_], scores: NDArray[np.float64], row_ids: pl.Series
    ) -> Finding:
        names = pl.Series(self.judged.names).gather(self.judged.likeliest)
        suggested = pl.select(pl.when(pl.Series(flags)).then(names)).to_series()
        lines = scored_rows(
            row_ids.gather(self.rows.place),
            scores,
            flagged=flags,
            reason=CONTRADICTS,
            suggested=suggested,
        ).with_columns(reason=self._reasons(flags))
        flagged = int(flags.sum())
        return Finding(
            "labels.issues",
            self.verdict,
            Estimate.rate(flagged, flags.size),
            f"{flagged} of {flags.size} labels contradict the features of their row",
            severity=self._severity(),
            columns=(self.column,),
            rows=lines,
            details={"pairs": self._pairs(flags), "left_out": dict(self.rows.left_out)},
            remedy=""
            if not flagged
            else "set on_finding='quarantine', or relabel the flagged rows",
        )

    def _reasons(self, flags: NDArray[np.bool_]) -> pl.Series:
        """Why each flagged row is doubted: empty for the others."""
        judged, k = self.judged, len(self.judged.names)
        pair = judged.given * k + judged.likeliest
        count = np.bincount(pair[flags], minlength=1)
        often = np.zeros(pair.size, bool)
        often[flags] = count[pair[flags]] >= max(OFTEN_ROWS, OFTEN_SHARE * int(flags.sum()))
        sure = np.maximum(judged.own, judged.rival) >= SURE
        code = np.where(often, "a pair often confused", np.where(sure, "surely", "probably"))
        told = pl.format("{}: {}", pl.lit(CONTRADICTS), pl.Series(code))
        return pl.select(pl.when(pl.Series(flags)).then(told).otherwise(pl.lit(""))).to_series()

    def _pairs(self, flags: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Which class is given for which, the most frequent first."""
        k = len(self.judged.names)
        pairs = self.judged.given[flags] * k + self.judged.likeliest[flags]
        found, count = np.unique(pairs, return_counts=True)
        order = np.argsort(-count, kind="stable")[:MOST_PAIRS]
        names = self.judged.names
        return [
            {"given": names[p // k], "likely": names[p % k], "rows": int(n)}
            for p, n in zip(found[order].tolist(), count[order], strict=True)
        ]

    def _severity(self) -> Severity:
        return SEVERITY.get(self.verdict, "info")


def _fewest_detectable(floor: Estimate, tolerance: float, n: int) -> int:
    """About how many wrong labels, spread evenly, would not have passed as clean."""
    return min(n, int(np.ceil((tolerance + floor.high - floor.value) * n)))


def _noise_rate(judged: Judgement, issues: NDArray[np.bool_]) -> Estimate:
    """The bracket: from the floor's lower bound to the highest upper bound of the estimators."""
    n = issues.size
    point = float(judged.details.get("posterior_rate", judged.error.mean()))
    shares = (point, judged.joint_rate, float(issues.mean()))
    highs = [Estimate.rate(round(share * n), n).high for share in shares]
    low = min(judged.floor.low, point)
    return Estimate(point, low, max(highs), n=n, method="label-free bracket, not audited")


def _bracket(rate: Estimate, unit: str) -> str:
    """The noise rate in words; no point where the features leave most of it open."""
    between = f"between {rate.low:.1%} and {rate.high:.1%}"
    if rate.low < rate.value / 2:
        return f"{between} of {rate.n} {unit} are wrong: features tell no closer (not audited)"
    return f"about {rate.value:.1%} of {rate.n} {unit} are wrong ({between}; not audited)"


def _told_of_parts(
    judged: PartsJudged, verdict: Verdict, column: str, data: Dataset
) -> tuple[Finding, Finding]:
    flags = np.zeros(judged.flags.size, bool) if verdict == "clean" else judged.flags
    shown = pl.Series(flags)
    left_out = len(data) - judged.place.size
    details = {**judged.details, "floor": judged.floor.to_json(), "left_out": left_out}
    rate, severity = judged.rate, SEVERITY.get(verdict, "info")
    lines = scored_rows(data.row_ids.gather(judged.place), judged.scores, flagged=flags)
    reason, suggested = pl.Series(judged.reasons), pl.Series(judged.suggested, dtype=pl.String)
    lines = lines.with_columns(
        reason=pl.when(shown).then(reason).otherwise(pl.lit("")),
        suggested=pl.when(shown).then(suggested),
    )
    noise = Finding(
        "labels.noise", verdict, rate,
        _bracket(rate, judged.unit),
        severity=severity, columns=(column,), details=details,
        remedy="" if verdict == "clean" else "have a sample of the flagged rows relabelled",
    )  # fmt: skip
    flagged = int(flags.sum())
    issues = Finding(
        "labels.issues", verdict, Estimate.rate(flagged, flags.size),
        f"{flagged} of {flags.size} rows hold a label that contradicts its prediction",
        severity=severity, columns=(column,), rows=lines, details=details,
        remedy="set on_finding='quarantine', or relabel the flagged rows" if flagged else "",
    )  # fmt: skip
    return noise, issues


def _nearly_guessed(noise: Finding, issues: Finding, telling: Estimate) -> tuple[Finding, Finding]:
    """Where features hardly tell any label: none can be called wrong, and all may be."""
    why = f"features tell the labels hardly better than a guess ({telling.value:.2f} of 1)"
    high, n = noise.measure.high, noise.measure.n
    noise = replace(
        noise,
        measure=Estimate.unknown(0.0, high, method=why, n=n),
        says=f"{why}: up to {high:.1%} of {n} may be wrong, or no column tells them",
        remedy="give the columns that tell the label, or have a sample of rows labelled again",
    )
    return noise, issues.withdrawn(f"{why}, so that no label can be called wrong", method=why, n=n)
