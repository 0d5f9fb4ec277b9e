# SPDX-License-Identifier: Apache-2.0
"""`JudgeAnnotators`: who is good, who does not look, whose skill fell, and how far they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.errors import SchemaMismatch, nearest
from datapipe.measure.agreement import alpha_estimate, fleiss_kappa, pairwise_kappas, retested
from datapipe.measure.annotator_drift import FEWEST_BEFORE, LAGS, Drift, drift, knowledge
from datapipe.measure.annotator_speed import relative_times, speed
from datapipe.measure.crowd import Answers
from datapipe.measure.crowd_models import hierarchical
from datapipe.stages.labels._answers import MOST_NAMED, Told, answers_of, at_chance, skills

Scale = Literal["nominal", "ordinal", "interval"]
FEWEST_ANSWERS = LAGS[0] + FEWEST_BEFORE
"""Answers from which on a change can be told."""
MOST_PAIRS = 200
"""Annotators beyond this are not compared two by two."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class JudgeAnnotators(Stage):
    """Judges annotators by their answers: skill, information, consistency, drift, speed, agreement.

    *Method:* hierarchical Dawid-Skene joins the answers; an annotator's answers are held against
    what the *others* said of the item. Skill has Wilson's interval; information is the share of
    the class's entropy that an answer tells (0 for a spammer, whatever the habit); drift is a
    likelihood ratio of a lower skill in the last answers to one skill throughout, with one false
    alarm in 5,000 histories; speed is held against accuracy where times are known, each against the
    usual time of its item; agreement is Krippendorff's alpha with a bootstrap over items.
    *Assumes:* most annotators are better than chance; rows are in the order of time, or a column
    has the role `time`.
    *Choose it when:* answers of several annotators are at hand, before their labels are used.
    *Fails when:* all err alike, or items grew harder with time: that looks like a fall in skill.
    *Cost:* O(answers x classes) a round of EM; two by two comparison for up to 200 annotators.

    Args:
        gold: Column with the known label of gold questions, null elsewhere; empty for none.
        scale: Scale of the classes for alpha: `nominal`, `ordinal` or `interval`.
        seconds: Column with the time that each answer took, > 0; empty for none.
        on_finding: What is done with the answers of annotators who are at chance, and with those
            that were given after a skill fell.

    Example:
        >>> import pyarrow as pa, tempfile
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> table = pa.table({"i": [1, 1, 1, 2, 2], "w": list("abcab"), "y": list("xxzzz")})
        >>> data = Dataset.of(table, Roles.of(id="i", annotator="w", label="y"))
        >>> made = JudgeAnnotators().run(data, Context(0, Path(tempfile.mkdtemp())))
        >>> [f.kind for f in made.findings]
        ['labels.annotators', 'labels.drift', 'labels.agreement']

    References:
        Krippendorff, 2011, Computing Krippendorff's alpha-reliability; Raykar & Yu, 2012,
        Eliminating spammers; Siegmund & Venkatraman, 1995, Using the generalized likelihood ratio
        statistic for sequential detection of a change-point.
    """

    gold: str = ""
    scale: Scale = "nominal"
    seconds: str = ""
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "labels.annotators"
    version: ClassVar[str] = "3"
    needs: ClassVar[tuple[str, ...]] = ("label", "id", "annotator")
    gives: ClassVar[tuple[str, ...]] = ("table",)
    raises_findings: ClassVar[tuple[str, ...]] = (
        "labels.annotators",
        "labels.drift",
        "labels.agreement",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Krippendorff, 2011, Computing Krippendorff's alpha-reliability",
        "Raykar & Yu, 2012, Eliminating spammers and ranking annotators",
        "Siegmund & Venkatraman, 1995, Sequential detection of a change-point",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Judge the annotators.

        Args:
            data: One answer a row, with the roles `id` (the item), `annotator` and `label`, and
                perhaps `time`.
            context: Its seed draws the resamples; its scratch folder takes the table.

        Returns:
            Findings `labels.annotators`, `labels.drift` and `labels.agreement`; the table
            `annotators.annotators` with a line an annotator.

        Raises:
            SchemaMismatch: There is no such column of times, or it holds no numbers.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> table = pa.table({"i": [1, 2], "w": ["a", "b"], "y": ["x", "z"]})
            >>> data = Dataset.of(table, Roles.of(id="i", annotator="w", label="y"))
            >>> JudgeAnnotators().run(data, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        told = answers_of(data, self.gold)
        why = told if isinstance(told, str) else told.alone
        if isinstance(told, str) or why:
            return self.not_evaluated(why)
        made = hierarchical(told.answers)
        others = _without_own(told.answers, made.posterior, made.confusion)
        falls = self._falls(data, told, others)
        people = skills(told, made.posterior).with_columns(
            information=pl.Series(knowledge(_table(made.confusion), made.prior)),
            retest=pl.Series(retested(told.answers)).fill_nan(None),
            drift_since=pl.Series(
                [f.since if f.alarm >= 0 else None for f in falls], dtype=pl.Int64
            ),
            drift_after=pl.Series(
                [f.after if f.alarm >= 0 else None for f in falls], dtype=pl.Float64
            ),
        )
        paces: dict[str, object] = {}
        if self.seconds:
            people, rushing = _paced(people, data, told, others, self.seconds)
            paces["rushing"] = rushing[:MOST_NAMED]
        path = context.scratch / "annotators.annotators.parquet"
        people.write_parquet(path)
        facts = {"columns": people.columns, "rows": people.height}
        media = "application/vnd.apache.parquet"
        table = Artifact("annotators.annotators", "table", path, media, facts)
        rng = context.rng("agreement")
        findings = (
            at_chance(data, told, people, 1.0 - others, **paces),
            _drifted(data, told, falls, others),
            self._agreement(told, rng),
        )
        return Yield(findings=findings, artifacts=(table,))

    def _falls(self, data: Dataset, told: Told, others: Floats) -> list[Drift]:
        """The drift of each annotator, answers in the order of time."""
        order = np.arange(told.place.size)
        if "time" in data.roles:
            order = data.values("time").gather(told.place).arg_sort().to_numpy()
        who = told.answers.annotator[order]
        order = order[np.argsort(who, kind="stable")]
        ends = np.cumsum(np.bincount(who, minlength=told.answers.n_annotators))
        return [drift(others[part]) for part in np.split(order, ends[:-1])]

    def _agreement(self, told: Told, rng: np.random.Generator) -> Finding:
        answers = told.answers
        values = None
        if self.scale == "interval" and told.classes.dtype.is_numeric():
            values = told.classes.cast(pl.Float64).to_numpy()
        alpha = alpha_estimate(answers, rng, level=self.scale, values=values)
        if np.isnan(alpha.value):
            return Finding.not_evaluated("labels.agreement", alpha.method)
        pairs = pairwise_kappas(answers) if answers.n_annotators <= MOST_PAIRS else []
        worst = sorted(pairs, key=lambda p: (np.nan_to_num(p[3], nan=1.0), p[0], p[1]))[:MOST_NAMED]
        return Finding(
            "labels.agreement",
            "clean" if alpha.low > 0 else "suspect",
            alpha,
            f"Krippendorff's alpha ({self.scale}) of {answers.n_annotators} annotators is"
            f" {alpha.value:.2f} (between {alpha.low:.2f} and {alpha.high:.2f})",
            severity="info" if alpha.low > 0 else "medium",
            details={
                "fleiss_kappa": fleiss_kappa(answers.votes()),
                "lowest_pairs": [
                    {"first": a, "second": b, "items": n, "cohen_kappa": k} for a, b, n, k in worst
                ],
                "min_detectable": 2,
            },
            remedy="" if alpha.low > 0 else "make the instructions clearer and ask again",
        )


def _without_own(answers: Answers, posterior: Floats, confusion: Floats | None) -> Floats:
    """How likely each answer is right by what the others said of the item."""
    table = np.log(np.maximum(_table(confusion), 1e-12))
    own = table[answers.annotator, :, answers.label]
    if answers.weight is not None:
        own = own * answers.weight[:, None]
    logs = np.log(np.maximum(posterior[answers.item], 1e-300)) - own
    logs -= logs.max(1, keepdims=True)
    shares = np.exp(logs)
    right = shares[np.arange(answers.item.size), answers.label] / shares.sum(1)
    return np.asarray(np.clip(right, 0.0, 1.0), np.float64)


def _table(confusion: Floats | None) -> Floats:
    return np.empty((0, 1, 1)) if confusion is None else confusion


def _paced(
    people: pl.DataFrame, data: Dataset, told: Told, others: Floats, column: str
) -> tuple[pl.DataFrame, list[int]]:
    """Time and its worth for every annotator, and whose quick answers are worse."""
    if column not in data.names:
        raise SchemaMismatch(f"there is no column {column!r}", hint=nearest(column, data.names))
    if not data.types[column].is_numeric():
        raise SchemaMismatch(
            f"the column {column!r} holds {data.types[column]}, seconds are needed",
            hint="give the time that each answer took as a number",
        )
    held = data.frame([column])[column].gather(told.place).cast(pl.Float64)
    seconds = held.fill_null(float("nan")).to_numpy()
    who = told.answers.annotator
    times = relative_times(seconds, told.answers.item)
    order = np.argsort(who, kind="stable")
    ends = np.cumsum(np.bincount(who, minlength=told.answers.n_annotators))
    parts = np.split(order, ends[:-1])
    made = [speed(others[part], times[part]) for part in parts]
    bar = 0.05 / max(1, sum(s.correlation.n > 0 for s in made))
    usual = [
        np.median(t) if (t := seconds[p][np.isfinite(seconds[p])]).size else None for p in parts
    ]
    columns: dict[str, list[float | None]] = {
        "seconds": usual,
        "speed_accuracy": [s.correlation.value for s in made],
        "speed_low": [s.correlation.low for s in made],
        "speed_high": [s.correlation.high for s in made],
        "quick_skill": [s.quick for s in made],
    }
    told_of = [pl.Series(n, v, dtype=pl.Float64).fill_nan(None) for n, v in columns.items()]
    return people.with_columns(told_of), [i for i, s in enumerate(made) if s.p_value <= bar]


def _drifted(data: Dataset, told: Told, falls: list[Drift], others: Floats) -> Finding:
    """Annotators whose skill fell; their answers since then are flagged."""
    judged = int((np.bincount(told.answers.annotator) >= FEWEST_ANSWERS).sum())
    fallen = [i for i, f in enumerate(falls) if f.alarm >= 0]
    if not judged:
        return Finding.not_evaluated(
            "labels.drift", "no annotator gave enough answers to tell a change"
        )
    return Finding(
        "labels.drift",
        "suspect" if fallen else "clean",
        Estimate.rate(len(fallen), max(judged, len(fallen))),
        f"the skill of {len(fallen)} of {judged} annotators fell while they answered",
        severity="medium" if fallen else "info",
        columns=(data.roles.one("annotator"),),
        rows=scored_rows(data.row_ids.gather(told.place), 1.0 - others),
        details={
            "fallen": [
                {
                    "annotator_no": i,
                    "since_answer": falls[i].since,
                    "before": falls[i].before,
                    "after": falls[i].after,
                }
                for i in fallen[:MOST_NAMED]
            ],
            "min_detectable": LAGS[0],
        },
        remedy="look at their answers since then, and ask what changed" if fallen else "",
    )
