# SPDX-License-Identifier: Apache-2.0
"""`SyntheticScore`: how much each row looks machine-made, judged against people of its own kind."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.core.parameters import AnyPath, OpenShare, PositiveInt
from datapipe.core.roles import ROW_ID
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.errors import DeclarationError, Malformed
from datapipe.measure.detection import beta_binomial_tail
from datapipe.stages.synthetic import _families, _judges
from datapipe.stages.synthetic._calibration import chances, conformal
from datapipe.stages.synthetic._distance import beyond, known_shares, too_far
from datapipe.stages.synthetic._gathering import (
    ANCHOR,
    DOMAIN,
    KIND,
    MAKER,
    OTHERS,
    PART_ROWS,
    REFERENCE,
    UNKNOWN,
    Abstained,
    Gathering,
    elsewhere,
    labels,
    opened,
)  # fmt: skip
from datapipe.stages.synthetic._views import Views, views

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Scorer = Callable[[pl.Series], Any]

LEAST_ROWS = 30
LEAST_PEOPLE = 60
"""Reference rows without which nobody's writing is known."""
LEAST_PROMPTS = 12
ALPHA = 0.001
"""Of the verdict on all rows. Texts of people come in clusters of one topic, which the contrast can
learn: then hits come together more often than the test of their number assumes."""


@dataclass(frozen=True)
class SyntheticScore(Stage):
    """Scores each row by how much it looks machine-made, with a p-value against people's rows.

    *Method:* texts are brought to one form and one window of words, so that line breaks, quotes,
    lengths and endings do not count, and are seen as style numbers and hashed n-grams of
    characters, words, and words stripped of their topic. Two sources of knowledge are joined:
    labelled rows (anchors, perhaps of other domains), and the contrast between the rows and the
    human reference of their own domain, which needs no machine row. Each is weighted by what it
    separates; every row is scored by models that saw neither it nor its prompt. The p-value is
    conformal against the reference, so that false positives are bounded whatever the score is
    worth; the score is the chance that a machine made the row. Tables and pictures are judged by
    their columns, their likelihood under the reference and the distance of their neighbours.
    *Assumes:* the reference is drawn from the population of the rows that people made.
    *Choose it when:* you hold 100 or better 150 rows of the domain that people surely made.
    *Fails when:* there is no reference: rows may get a score, no p-value and no verdict. A text
    under `least_words` is not judged. Pure samples of a language model without instructions are
    nearly invisible to style.
    *Cost:* one pass over the rows, a few thousand at a time, with small fits for each such part;
    memory does not grow with the rows but for what is said of each.

    Args:
        reference: Parquet file of rows that people made; empty for the run's reference.
        anchors: Parquet file of machine-made rows; rows that it declares human teach too.
        column: Column with a flag or the generator's name; empty to look for the usual names.
        scorer: A score of your own, higher for machines: a column of data and reference, or a
            function of the texts (a polars series), given itself or as `module:name`.
        least_words: Shorter texts are not judged, >= 1.
        false_alarms: Share of people's rows that may be flagged, in (0, 1).
        on_finding: What becomes of flagged rows.

    Example:
        >>> from pathlib import Path
        >>> import pyarrow as pa
        >>> data = Dataset.of(pa.table({"x": [1.0, 2.0]}))
        >>> SyntheticScore().run(data, Context(0, Path("."))).findings[0].verdict
        'not_evaluated'

    References:
        Vovk, Gammerman & Shafer, 2005, Algorithmic learning in a random world.
        Elkan & Noto, 2008, Learning classifiers from only positive and unlabeled data.
        Bates, Candès, Lei, Romano & Sesia, 2023, Testing for outliers with conformal p-values.
    """

    reference: AnyPath = ""
    anchors: AnyPath = ""
    column: str = ""
    scorer: str | Scorer = ""
    least_words: PositiveInt = 60
    false_alarms: OpenShare = 0.01
    on_finding: OnSuspect = "note"

    name: ClassVar[str] = "synthetic.score"
    extra: ClassVar[str] = "learn"
    raises_findings: ClassVar[tuple[str, ...]] = ("synthetic.score",)
    references: ClassVar[tuple[str, ...]] = (
        "Vovk, Gammerman & Shafer, 2005, Algorithmic learning in a random world",
        "Elkan & Noto, 2008, Learning classifiers from only positive and unlabeled data",
        "Bates, Candès, Lei, Romano & Sesia, 2023, Testing for outliers with conformal p-values",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if callable(self.scorer):  # a name survives the way to another process
            named = f"{self.scorer.__module__}:{getattr(self.scorer, '__qualname__', '')}"
            object.__setattr__(self, "scorer", named)

    def check(self) -> list[str]:
        """Problems with the parameters that can be told without data.

        Returns:
            A sentence for each problem.

        Example:
            >>> SyntheticScore(least_words=0).check()
            ['synthetic.score: least_words=0 must be at least 1']
        """
        wrong = super().check()
        if "<locals>" in str(self.scorer) or "<lambda>" in str(self.scorer):
            wrong.append(f"{self.name}: scorer must be a function that a module holds by name")
        return wrong

    def cacheable(self) -> bool:
        """Whether nothing outside of the data is read: False with files or a scorer of its own.

        Returns:
            True without reference, anchors and scorer.

        Example:
            >>> SyntheticScore(reference="human.parquet").cacheable()
            False
        """
        return not (self.reference or self.anchors or self.scorer)

    def run(self, data: Dataset, context: Context) -> Yield:
        """Score the rows.

        Args:
            data: The rows; those declared synthetic serve as anchors and are not judged.
            context: Its reference is used when the parameter names none; seeds the folds.

        Returns:
            One finding; its rows are those that could be scored.

        Example:
            >>> from pathlib import Path
            >>> from datapipe.core.dataset import empty
            >>> SyntheticScore().run(empty(), Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        people = opened(self.reference) or context.reference
        given = opened(self.anchors)
        own = str(self.scorer)
        beside = (own,) if own and ":" not in own else ()
        try:
            every = Gathering(data, people, given, context, column=self.column, beside=beside)
            made = _together([
                self._part(every.together(start, stop), data, context, beside)
                for start, stop in _parts(len(data))
            ])  # fmt: skip
        except Abstained as why:
            return Yield(findings=(_silent(str(why), len(data)),))
        return Yield(findings=(self._finding(made, len(data)),))

    def _part(
        self, every: pl.DataFrame, data: Dataset, context: Context, beside: tuple[str, ...]
    ) -> Judged:
        """What can be said of one part of the rows; nothing where it abstains."""
        try:
            return self._judged(every, data, context, beside)
        except Abstained as why:
            none = np.empty(0)
            return Judged(pl.Series([], dtype=pl.UInt64), none, None, 0, str(why))

    def _judged(
        self, every: pl.DataFrame, data: Dataset, context: Context, beside: tuple[str, ...]
    ) -> Judged:
        plain = every.drop(KIND, MAKER, DOMAIN, ROW_ID, *beside)
        kind = every[KIND].to_numpy().astype(np.int64)
        if not every.height:
            raise Abstained("there are no rows")
        rows = views(plain, data.roles, least_words=self.least_words, people=kind == REFERENCE)
        own = self._own(every, plain)
        kept = rows.usable & np.isfinite(own)
        if int((kept & (kind == UNKNOWN)).sum()) < LEAST_ROWS:
            raise Abstained(
                f"{int((kept & (kind == UNKNOWN)).sum())} usable rows;"
                f" at least {LEAST_ROWS} are needed"
            )
        rows, kind, own, told = rows.of(kept), kind[kept], own[kept], every.filter(kept)
        why = _no_reference(rows, kind == REFERENCE)
        whole = [own] if self.scorer else []
        whole += _labelled(rows, kind, context)
        of_families = _by_family(rows, kind, told) if elsewhere(kind) else []
        if why:
            if not whole:
                raise Abstained(why)
            asked = kind == UNKNOWN
            ranked = _families.heard([w[asked] for w in whole], [f[asked] for f in of_families])
            chance = np.asarray(1.0 / (1.0 + np.exp(-ranked)), np.float64)
            return Judged(told[ROW_ID].filter(asked), chance, None, 0, why)
        return self._against(rows, kind, [*whole, *of_families], told[ROW_ID], context)

    def _against(
        self, rows: Views, kind: NDArray[np.int64], parts: list[Floats], ids: pl.Series,
        context: Context,
    ) -> Judged:  # fmt: skip
        """Scores and p-values against the reference."""
        either = (kind == REFERENCE) | (kind == UNKNOWN)
        people = kind[either] == REFERENCE
        contrast = _judges.contrast_scores(rows.of(either), people, context.rng("contrast"))
        joined = _judges.joined([*(p[either] for p in parts), contrast], people)
        p_values = conformal(joined[people], joined[~people])
        why = ""
        if rows.texts is not None:
            known = (kind == REFERENCE) | (kind == ANCHOR) | (kind == OTHERS)
            shares = known_shares(rows.texts, known)
            if too_far(shares, kind == REFERENCE, kind == UNKNOWN):
                why = "the reference is too far from the rows: other words, topic or language"
            outside = beyond(shares, kind == REFERENCE)[kind == UNKNOWN]
            p_values = np.where(outside, np.nan, p_values)
        if (int(people.sum()) + 1) * self.false_alarms < 1 and not why:
            why = f"{int(people.sum())} reference rows cannot bound a share of {self.false_alarms}"
        made = chances(joined[people], joined[~people])
        asked = ids.filter(kind == UNKNOWN)
        if why:
            return Judged(asked, made, None, int(people.sum()), why)
        return Judged(asked, made, p_values, int(people.sum()), "")

    def _own(self, every: pl.DataFrame, plain: pl.DataFrame) -> Floats:
        """The user's own score of every row, NaN where it gives none; zeros without a scorer."""
        wanted = str(self.scorer)
        if not wanted:
            return np.zeros(every.height)
        if ":" not in wanted:
            column = every[wanted].cast(pl.Float64, strict=False)
            return column.fill_null(float("nan")).to_numpy().astype(np.float64)
        try:
            made = np.asarray(_function(wanted)(plain.to_series()), np.float64)
        except DeclarationError:
            raise
        except Exception as error:
            raise Malformed(
                f"the scorer {wanted} failed: {type(error).__name__}",
                code="DP-SYN-004",
                hint="let it take a polars series of texts and give a number for each",
            ) from error
        if made.shape != (every.height,):
            raise Malformed(
                f"the scorer {wanted} gave shape {made.shape} for {every.height} texts",
                code="DP-SYN-004",
                hint="give one number for each text",
            )
        return made

    def _finding(self, made: Judged, n: int) -> Finding:
        looked = made.scores.size
        details: dict[str, Any] = {
            "looked_at": looked, "not_looked_at": n - looked, "reference_rows": made.people,
            "false_alarms": self.false_alarms,
        }  # fmt: skip
        if made.p_values is None:
            return Finding.not_evaluated(
                "synthetic.score",
                made.why_not,
                measure=Estimate.unknown(method="no verdict", n=looked),
                rows=scored_rows(made.row_ids, made.scores),
                details={**details, "why": made.why_not},
                remedy="give reference='human.parquet': rows of this domain that people made",
            )
        hit = np.nan_to_num(made.p_values, nan=1.0) <= self.false_alarms
        judged = int(np.isfinite(made.p_values).sum())
        below = int(self.false_alarms * (made.people + 1))
        p_value = float(beta_binomial_tail(int(hit.sum()), judged, below, made.people + 1 - below))
        suspect = p_value < ALPHA
        details["withheld"] = looked - judged
        return Finding(
            "synthetic.score",
            "suspect" if suspect else "clean",
            Estimate.rate(int(hit.sum()), judged),
            f"{int(hit.sum())} of {judged} rows look machine-made where"
            f" {self.false_alarms * judged:.0f} of people's would",
            "medium" if suspect else "info",
            p_value=min(1.0, max(0.0, p_value)),
            rows=scored_rows(
                made.row_ids, made.scores, flagged=hit if suspect else None,
                p_values=pl.Series(made.p_values).fill_nan(None),
                reason="unlike what people of this domain write",
            ),
            details=details,
            remedy="ask the source how these rows were made" if suspect else "",
        )  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Scores of the rows that could be looked at.

    Args:
        row_ids: uint64, shape (n,).
        scores: float64, shape (n,), in (0, 1).
        p_values: float64, shape (n,), NaN where withheld; None when there is no verdict.
        people: Reference rows that were used.
        why_not: Why there is no verdict, empty when there is one.

    Example:
        >>> Judged(pl.Series([], dtype=pl.UInt64), np.empty(0), None, 0, "none").people
        0
    """

    row_ids: pl.Series
    scores: Floats
    p_values: Floats | None
    people: int
    why_not: str


def _parts(n: int) -> list[tuple[int, int]]:
    """Runs of rows of much the same length, each held and judged at a time."""
    edges = np.linspace(0, n, max(1, -(-n // PART_ROWS)) + 1).round().astype(int)
    return list(pairwise(edges.tolist()))


def _together(parts: list[Judged]) -> Judged:
    """What was said of all parts; raises `Abstained` where nothing was said of any."""
    told = [p for p in parts if p.scores.size]
    if not told:
        raise Abstained(parts[0].why_not)
    judged = [p for p in told if p.p_values is not None]
    held = [np.full(p.scores.size, np.nan) if p.p_values is None else p.p_values for p in told]
    return Judged(
        pl.concat([p.row_ids for p in told]),
        np.concatenate([p.scores for p in told]),
        np.concatenate(held) if judged else None,
        min(p.people for p in (judged or told)),
        "" if judged else told[0].why_not,
    )


def _no_reference(rows: Views, people: Bools) -> str:
    """Why the reference cannot be used; empty when it can."""
    held = rows.groups.filter(pl.Series(people))
    if not held.len():
        return "without rows that people surely made no verdict on a row can be defended"
    if held.len() < LEAST_PEOPLE or held.n_unique() < LEAST_PROMPTS:
        return (
            f"{held.len()} usable reference rows from {held.n_unique()} prompts;"
            f" at least {LEAST_PEOPLE} from {LEAST_PROMPTS} are needed"
        )
    return ""


def _labelled(rows: Views, kind: NDArray[np.int64], context: Context) -> list[Floats]:
    """The score that labelled rows teach; none without both kinds."""
    label = labels(kind)
    if min(int((label == 1).sum()), int((label == 0).sum())) < LEAST_ROWS:
        return []
    return [_judges.labelled_scores(rows, label, context.rng("labelled"))]


def _by_family(rows: Views, kind: NDArray[np.int64], told: pl.DataFrame) -> list[Floats]:
    """A score for each family of makers; none for tables and pictures, or makers all alike."""
    if not rows.sparse:
        return []
    label, made = labels(kind), []
    family = _families.families(rows.dense, label, told[MAKER], told[DOMAIN])
    asked = (kind == REFERENCE) | (kind == UNKNOWN)
    for which in np.unique(family[family >= 0]):
        one = (family == which).astype(np.int64)
        made.append(np.zeros(kind.size))
        made[-1][asked] = _families.family_scores(rows, label, one, told[DOMAIN], asked)
    return made


def _function(wanted: str) -> Scorer:
    """The function that `module:name` names."""
    module, _, name = wanted.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise DeclarationError(
            f"there is no scorer {wanted}",
            code="DP-SYN-005",
            hint="name it as module:function, with the module on the path",
        ) from error
    made: Scorer = found
    return made


def _silent(why: str, n: int) -> Finding:
    return Finding.not_evaluated(
        "synthetic.score",
        why,
        measure=Estimate.unknown(method="no verdict", n=n),
        details={"why": why, "looked_at": 0, "not_looked_at": n},
        remedy="give reference='human.parquet': rows of this domain that people made",
    )
