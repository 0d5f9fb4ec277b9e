# SPDX-License-Identifier: Apache-2.0
"""`SourceShift`: which contributor, annotator or batch gives labels that its content denies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
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
from datapipe.measure.crossfit import out_of_fold
from datapipe.stages.poisoning._agreement import with_answers
from datapipe.stages.poisoning._labelled import (
    UNREADABLE,
    Labelled,
    Learner,
    beside,
    first_of,
    labelled,
    learner,
)
from datapipe.stages.poisoning._moved_labels import fewest_flips
from datapipe.stages.poisoning._surprise import Accused, Surprise, accused
from datapipe.stages.poisoning._withheld import withheld

FEWEST_OF_ONE = 10
"""Sources with fewer rows are not judged one by one."""
FEWEST_OF_CLASS = 4
"""Classes with fewer rows are left out."""
LANDMARKS = 800
"""Rows that the kernel is centred on: a source is told by many rows, not by a sure model."""
MOST_NAMED = 10
SURE = 0.2
"""Of `alpha` this share fails the data; what is less sure is named all the same."""
CARELESS = 0.05
"""Nobody is named whom the most careless of as many honest sources equals more often than this."""
SEVERITY: dict[Verdict, Severity] = {"fail": "high", "suspect": "medium", "clean": "info"}

EXCUSES = ("mix_may_explain", "content_may_explain", "spread_may_explain")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class SourceShift(Stage):
    """Finds contributors, annotators or batches whose labels contradict what their rows hold.

    *Method:* a model that has not seen a row says how likely its label is. How much the labels of
    one source surprise it, less what is to be expected of such rows, is held against as many rows
    drawn from all: their sums are counted out, or told by a saddlepoint. It must hold against
    others' rows with the same labels, of which the model thinks alike, and with content that is as
    much the source's own, too: one rich in a hard class, or in rows that nobody else has, is no
    liar. One far beyond the others that only its mix of labels or its content may explain is
    *suspect*. A source with many rows of a label teaches the model its lie; where its labels
    contradict more often than others' do, a model that did not learn from it is asked, too.
    Where rows of several sources hold the same, as answers of annotators to one item do, what the
    others said of it counts beside what it holds, each by how far he is to be trusted (Dawid and
    Skene). What a source says twice of one item counts once. Columns that copy the label are left
    out. Sources differ by nature; how far, is read from the middle half of them, and
    who is accused lies farther out than the most careless of as many honest ones would, with all
    doubt of how these differ. Holm's method keeps the chance of a false accusation below `alpha`.
    *Assumes:* features tell the class of most rows, and most sources are honest.
    *Choose it when:* a column says who brought or labelled a row.
    *Fails when:* the bad source is most of the data, or moved fewer labels than `min_detectable`;
    or honest sources differ so widely that a liar is no farther out than the worst of them.
    *Cost:* `folds` fits, and as many, or twice as many, for each source that would be accused.

    Args:
        folds: How many folds, >= 2.
        alpha: Chance that any honest source is named, in (0, 1); a fifth of it fails the data.
        most_unseen: Largest share of the rows of a source of usual size, in (0, 1], whose labels
            could be moved without an alarm for the verdict to be *clean*.
        on_finding: What is done with rows of an accused source whose label is contradicted.

    Example:
        >>> import pyarrow as pa
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> rng = np.random.default_rng(0)
        >>> y = rng.integers(0, 2, 600)
        >>> x, who = y + 0.2 * rng.normal(size=600), np.arange(600) % 12
        >>> y = np.where((who == 7) & (rng.random(600) < 0.4), 1 - y, y)
        >>> table = pa.table({"x": x, "y": y, "who": who})
        >>> data = Dataset.of(table, Roles.of(label="y", source="who"))
        >>> made = SourceShift().run(data, Context(0, Path("."))).findings[0]
        >>> made.verdict, made.details["source"]
        ('fail', '7')

    References:
        Baracaldo et al., 2017, Mitigating poisoning attacks on machine learning models: a data
        provenance based approach; Lugannani & Rice, 1980, Saddlepoint approximation for the
        distribution of the sum of independent random variables; Holm, 1979, A simple sequentially
        rejective multiple test procedure; Mantel & Haenszel, 1959, Statistical aspects of the
        analysis of data from retrospective studies of disease; Dawid & Skene, 1979, Maximum
        likelihood estimation of observer error-rates using the EM algorithm.
    """

    folds: Annotated[int, Range(2)] = 10
    alpha: OpenShare = 0.02
    most_unseen: PositiveShare = 0.5
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "poisoning.source_shift"
    version: ClassVar[str] = "13"
    needs: ClassVar[tuple[str, ...]] = ("label", "source|annotator")
    raises_findings: ClassVar[tuple[str, ...]] = ("poisoning.source_shift",)
    extra: ClassVar[str] = "learn"
    references: ClassVar[tuple[str, ...]] = (
        "Baracaldo et al., 2017, Mitigating poisoning attacks: a data provenance based approach",
        "Lugannani & Rice, 1980, Saddlepoint approximation",
        "Holm, 1979, A simple sequentially rejective multiple test procedure",
        "Mantel & Haenszel, 1959, Statistical aspects of the analysis of retrospective studies",
        "Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Hold every source against the others.

        Args:
            data: Rows with the role `label` and one of `source` and `annotator`.
            context: Its seed deals the folds.

        Returns:
            One finding with a line for every labelled row.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> table = pa.table({"x": [1.0, 2.0], "y": [0, 1], "who": ["a", "b"]})
            >>> few = Dataset.of(table, Roles.of(label="y", source="who"))
            >>> SourceShift().run(few, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        data, copies = without_copies(data)
        rows = labelled(data, min(self.folds, FEWEST_OF_CLASS))
        if rows.why:
            return self.not_evaluated(rows.why)
        columns = [c for r in ("source", "annotator") for c in data.roles.all(r)[:1]]
        columns = [c for c in columns if not data.types[c].is_nested()]
        model = learner(
            data, rows, self.folds, context,
            landmarks=LANDMARKS, bayes=True, once=_brought_by(data, columns, rows),
        )  # fmt: skip
        if model is None:
            return Yield(findings=(beside(self.not_evaluated(UNREADABLE).findings[0], copies),))
        groups = [_Group.of_column(data, c, model) for c in columns]
        groups = [g for g in groups if len(g.names) >= 2]
        if not groups:
            return self.not_evaluated(f"fewer than two sources have {FEWEST_OF_ONE} labelled rows")
        shares = _shares(model, np.ones(model.rows.labels.size, bool))
        told = [_surprise(model, g, shares, g.first) for g in groups]
        rng, times = context.rng("moved labels"), len(groups)
        least = min(
            fewest_flips(t, g.of, (self.alpha, CARELESS), rng, times)
            for g, t in zip(groups, told, strict=True)
        )
        if not np.isfinite(least):
            return self.not_evaluated("no source has rows enough to be told from the others")
        usual = max(int(np.median(np.bincount(g.of[g.of >= 0]))) for g in groups)
        content = partial(_own_content, data, model.rows, self.folds, context)
        judged = [
            _Judged(g, t, accused(t, g.of, times, content, partial(_untaught, model, g)))
            for g, t in zip(groups, told, strict=True)
        ]
        found = self._finding(data, rows, model.one, judged, least)
        found = withheld(found, int(least), usual, self.most_unseen, "labels of a usual source")
        return Yield(findings=(beside(found, copies),))

    def _finding(
        self, data: Dataset, rows: Labelled, one: Ints, judged: list[_Judged], least: float
    ) -> Finding:
        told: list[dict[str, Any]] = []
        p_value, flags, failed = 1.0, np.zeros(one.size, bool), False
        measure = Estimate.rate(0, one.size)
        unlikely = np.max([j.surprise.unlikely for j in judged], axis=0)[one]
        for column in judged:
            for source in column.ranked:
                if source.p_value < p_value:
                    p_value = source.p_value
                    measure = Estimate.rate(source.contradicted, source.rows)
                if source.by_chance <= self.alpha and source.by_spread <= CARELESS:
                    mine = column.group.who == source.number
                    flags |= (mine & column.surprise.contradicts)[one]
                    excused = {"spread_may_explain": source.by_spread > self.alpha}
                    made = _named(source, column, rows) | excused
                    told.append(made)
                    failed |= source.by_chance <= SURE * self.alpha and not any(
                        made[excuse] for excuse in EXCUSES
                    )
        told.sort(key=lambda t: float(t["p_value"]))
        sources = sum(len(j.group.names) for j in judged)
        says = f"no label of {sources} sources contradicts its rows more than the others' do"
        if told:
            says = f"the labels of {len(told)} of {sources} sources contradict their rows"
        verdict: Verdict = "fail" if failed else "suspect" if told else "clean"
        return Finding(
            self.name,
            verdict,
            measure,
            says,
            severity=SEVERITY[verdict],
            p_value=p_value,
            columns=(*(j.group.column for j in judged), data.roles.one("label")),
            rows=scored_rows(
                data.row_ids.gather(rows.place),
                unlikely,
                flagged=flags,
                reason="its source is off, and the label contradicts the row",
            ),
            details={
                **(told[0] if told else {}),
                "sources": told[:MOST_NAMED],
                "judged": sources,
                "min_detectable": int(least),
            },
            remedy="ask this source, and set on_finding='quarantine'" if told else "",
        )


@dataclass(frozen=True, eq=False)
class _Group:
    """The sources of one column.

    `who` is of each row the number of its source; those from `len(names)` on are small or unknown.
    `first` says of which rows their source did not say the same of the same item before; `of` is
    `who` of these, -1 for the others and for small sources: copies are one witness.
    """

    column: str
    names: tuple[str, ...]
    who: Ints
    first: Bools
    of: Ints

    @classmethod
    def of_column(cls, data: Dataset, column: str, model: Learner) -> _Group:
        given = data.frame([column])[column].gather(model.rows.place).rename("who")
        names = given.drop_nulls().unique().sort()
        known = given.replace_strict(
            names, np.arange(len(names)), default=None, return_dtype=pl.Int64
        )
        nobody = pl.int_range(len(names), len(names) + len(given), eager=True)
        who = known.fill_null(nobody).to_numpy()
        first = np.zeros(who.size, bool)
        first[first_of(model.item, model.rows.labels, who)[0]] = True
        judged = np.flatnonzero(
            np.bincount(who[first], minlength=who.size + len(names))[: len(names)] >= FEWEST_OF_ONE
        )
        number = np.full(len(names) + who.size, -1)
        number[judged] = np.arange(judged.size)
        of = number[who]
        who = np.where(of < 0, judged.size + who, of)
        return cls(
            column, tuple(str(n) for n in names.gather(judged)), who, first, np.where(first, of, -1)
        )


@dataclass(frozen=True, eq=False)
class _Judged:
    """The sources of a column and what was found of each, the most telling first."""

    group: _Group
    surprise: Surprise
    ranked: list[Accused]


def _brought_by(data: Dataset, columns: list[str], rows: Labelled) -> Ints:
    """Numbers rows by who brought and labelled them."""
    who = data.frame(columns)[rows.place] if columns else pl.DataFrame()
    ranks = [who[c].rank("dense").fill_null(0).to_numpy().astype(np.int64) for c in columns]
    return first_of(*ranks)[1] if ranks else np.arange(rows.labels.size)


def _shares(model: Learner, some: Bools) -> Floats:
    """The chances of each label by content, from models that learnt from some of the rows."""
    return out_of_fold(model.predict, model.fold, some, len(model.rows.names))


def _surprise(model: Learner, group: _Group, shares: Floats, heard: Bools) -> Surprise:
    """How labels surprise who knows what rows hold, and what other sources said of the same."""
    labels = model.rows.labels
    return Surprise.of(labels, with_answers(shares, labels, model.item, group.who, heard))


def _untaught(model: Learner, group: _Group, mine: Bools) -> Surprise:
    """The same, of who did not learn from the source that has the rows given."""
    others = group.who != group.who[mine.argmax()]
    return _surprise(model, group, _shares(model, others), group.first & others)


def _own_content(
    data: Dataset, rows: Labelled, folds: int, context: Context, mine: Bools
) -> Floats:
    """How likely each row is one of a source, shape (n,), told by a model that has not seen it."""
    asked = replace(rows, labels=mine.astype(np.int64), names=("others", "own"))
    model = learner(data, asked, folds, context, landmarks=LANDMARKS)
    if model is None:  # nothing to tell rows by: all are alike
        return np.zeros(mine.size)
    return out_of_fold(model.predict, model.fold, np.ones(mine.size, bool), 2)[:, 1]


def _named(one: Accused, judged: _Judged, rows: Labelled) -> dict[str, Any]:
    """What a finding says of an accused source."""
    group, surprise = judged.group, judged.surprise
    mine = (group.of == one.number) & surprise.contradicts
    k = len(rows.names)
    pairs = np.bincount(surprise.likeliest[mine] * k + surprise.labels[mine], minlength=k * k)
    top = int(pairs.argmax())
    rest = (group.of != one.number) & (group.of >= 0)
    return {
        "column": group.column,
        "source": group.names[one.number],
        "rows": one.rows,
        "contradicted": one.contradicted,
        "share": Estimate.rate(one.contradicted, one.rows).to_json(),
        "share_of_others": float(surprise.contradicts[rest].mean()) if rest.any() else 0.0,
        "pair": [rows.names[top // k], rows.names[top % k]],
        "p_value": one.p_value,
        "mix_may_explain": one.by_labels,
        "content_may_explain": one.by_content,
    }
