# SPDX-License-Identifier: Apache-2.0
"""`SyntheticShare`: how many undeclared rows a machine made, with an interval, or silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Verdict, scored_rows
from datapipe.core.parameters import AnyPath, OpenShare, Share
from datapipe.core.roles import ROW_ID
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.stages.synthetic import _judges, _mixture
from datapipe.stages.synthetic._calibration import conformal
from datapipe.stages.synthetic._declarations import declared
from datapipe.stages.synthetic._distance import FOREIGN, known_shares, lacking, too_far
from datapipe.stages.synthetic._gathering import (
    ANCHOR,
    DOMAIN,
    KIND,
    MAKER,
    NAMES,
    OTHERS,
    REFERENCE,
    UNKNOWN,
    Abstained,
    elsewhere,
    gathered,
    labels,
    opened,
)  # fmt: skip
from datapipe.stages.synthetic._mixture import Scores
from datapipe.stages.synthetic._views import views

Ints = NDArray[np.int64]

MINIMUM = {REFERENCE: 60, ANCHOR: 40, UNKNOWN: 30}
"""Usable rows without which nothing is estimated."""
MIN_PROMPTS = 12
"""Texts that all begin alike are no sample."""
MIN_WORDS = 18
"""Shorter texts have no style to speak of."""
STEEPNESS = 1.5
"""From log-odds to a score in [0, 1]: bounded, so that no row decides alone."""


@dataclass(frozen=True)
class SyntheticShare(Stage):
    """Estimates the share of machine-made rows among those that nobody declared.

    *Method:* texts are brought to one form and one window of words, so that layout and length do
    not count; their style and n-grams (or the features of pictures and tables) are scored by linear
    models between people's rows and rows declared synthetic (the anchors), always by a model that
    has not seen the row nor any row of its prompt. The share follows from the mean score of the
    undeclared rows between the means of the two kinds (probability-mean adjusted count). The
    interval bootstraps all three samples; with anchors of several generators, of another domain,
    or where another generator may have written the rows, random effects over generators predict
    how far one more lies from people. Declared rows are counted on top. Each row gets a conformal
    p-value against the reference.
    *Assumes:* the reference is from the population of the human rows (same domain, language and
    time), and undeclared machine rows come from the generators among the anchors. If they may come
    from others, say `generators="any"`: the interval grows by what generators differ.
    *Choose it when:* you hold 60 or better 150 rows of the domain that people surely made.
    *Fails when:* there is no such reference: then it says that nothing can be known, [0, 1]; nor
    can it from anchors of another domain without people of theirs, and with those it may only know
    the least share. Texts that were paraphrased, or edited by people, score like people's.
    *Cost:* one pass over the rows; time grows with rows times features, four small fits.

    Args:
        reference: Parquet file of rows that people made; empty for the run's reference.
        anchors: Parquet file of machine-made rows, beside those declared in the data.
        column: Column with a flag or the generator's name; empty to look for the usual names.
        generators: `known` when undeclared rows come from the anchors' generators, else `any`.
        at_most: The lower bound of the undeclared share above which rows are suspect, in [0, 1].
        false_alarms: Share of people's rows that may be flagged, in (0, 1).
        on_finding: What becomes of flagged rows.

    Example:
        >>> from pathlib import Path
        >>> import pyarrow as pa
        >>> data = Dataset.of(pa.table({"x": [1.0, 2.0]}))
        >>> found = SyntheticShare().run(data, Context(0, Path("."))).findings[0]
        >>> found.verdict, found.measure.low, found.measure.high
        ('not_evaluated', 0.0, 1.0)

    References:
        Bella, Ferri, Hernández-Orallo & Ramírez-Quintana, 2010, Quantification via probability
        estimators.
        DerSimonian & Laird, 1986, Meta-analysis in clinical trials.
        Vovk, Gammerman & Shafer, 2005, Algorithmic learning in a random world.
    """

    reference: AnyPath = ""
    anchors: AnyPath = ""
    column: str = ""
    generators: Literal["known", "any"] = "known"
    at_most: Share = 0.05
    false_alarms: OpenShare = 0.01
    on_finding: OnSuspect = "note"

    name: ClassVar[str] = "synthetic.prevalence"
    extra: ClassVar[str] = "learn"
    raises_findings: ClassVar[tuple[str, ...]] = ("synthetic.prevalence",)
    references: ClassVar[tuple[str, ...]] = (
        "Bella, Ferri, Hernández-Orallo & Ramírez-Quintana, 2010, Quantification via probability",
        "DerSimonian & Laird, 1986, Meta-analysis in clinical trials",
        "Vovk, Gammerman & Shafer, 2005, Algorithmic learning in a random world",
    )

    def cacheable(self) -> bool:
        """Whether nothing outside of the data is read: False with files of its own.

        Returns:
            True without a reference or anchors file.

        Example:
            >>> SyntheticShare(reference="human.parquet").cacheable()
            False
        """
        return not self.reference and not self.anchors

    def run(self, data: Dataset, context: Context) -> Yield:
        """Estimate the share.

        Args:
            data: The rows; those declared synthetic serve as anchors.
            context: Its reference is used when the parameter names none; seeds folds and bootstrap.

        Returns:
            One finding; its rows are the undeclared rows that were scored.

        Example:
            >>> from pathlib import Path
            >>> from datapipe.core.dataset import empty
            >>> SyntheticShare().run(empty(), Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        table = declared(data, self.column, (), card="")
        counted = int(table["synthetic"].fill_null(value=False).sum())
        try:
            scored = self._scored(self._gathered(data, context), data, context)
            made = _identified(scored.scores, context.rng("bootstrap"), self.generators == "any")
        except Abstained as why:
            return Yield(findings=(_abstained(str(why), table.height, counted),))
        return Yield(findings=(self._finding(scored, made, counted, table.height),))

    def _gathered(self, data: Dataset, context: Context) -> pl.DataFrame:
        people = opened(self.reference) or context.reference
        if people is None:
            raise Abstained("without rows that people surely made the share cannot be known")
        return gathered(data, people, opened(self.anchors), context, column=self.column)

    def _scored(self, every: pl.DataFrame, data: Dataset, context: Context) -> Scored:
        """The score of every usable row; abstains when too few of a kind are usable."""
        kind = every[KIND].to_numpy().astype(np.int64)
        plain = every.drop(KIND, MAKER, DOMAIN, ROW_ID)
        rows = views(plain, data.roles, least_words=MIN_WORDS, people=kind == REFERENCE)
        for which, least in MINIMUM.items():
            held = rows.groups.filter(pl.Series(rows.usable & (kind == which)))
            if held.len() < least or held.n_unique() < MIN_PROMPTS:
                raise Abstained(
                    f"{held.len()} usable {NAMES[which]} from {held.n_unique()} prompts;"
                    f" at least {least} from {MIN_PROMPTS} are needed"
                )
        usable, kind, rows = every.filter(rows.usable), kind[rows.usable], rows.of(rows.usable)
        if rows.texts is not None:
            shares = known_shares(rows.texts, kind != UNKNOWN)
            if too_far(shares, kind == REFERENCE, kind == UNKNOWN):
                raise Abstained("the reference is too far from the rows: other words or topics")
            _at_home(rows.texts, kind, usable)
        places = usable[DOMAIN] if elsewhere(kind) else None
        odds = _judges.labelled_scores(
            rows, labels(kind), context.rng("folds"), trees=False, places=places
        )
        scores = 1.0 / (1.0 + np.exp(-np.clip(STEEPNESS * odds, -30, 30)))
        made = usable.with_columns(score=pl.Series(scores)).filter(pl.col(KIND) == ANCHOR)
        people = usable.with_columns(score=pl.Series(scores)).filter(pl.col(KIND) == OTHERS)
        codes = _codes(made)
        parts = [scores[kind == k] for k in (REFERENCE, ANCHOR, UNKNOWN)]
        scored = Scores(
            parts[0],
            parts[1],
            codes,
            parts[2],
            _homes(made[DOMAIN], people) if elsewhere(kind) else np.empty(0),
        )
        asked = usable.filter(pl.col(KIND) == UNKNOWN)[ROW_ID]
        return Scored(scored, asked, sorted(set(made[MAKER])))

    def _finding(self, scored: Scored, made: _mixture.Share, counted: int, n: int) -> Finding:
        """The declared share counted, the estimated share on top, and a p-value for each row."""
        scores = scored.scores
        low, value, high = made.low, made.value, made.high
        measure = _total(counted, n, (value, low, high), made.generators)
        p_values = conformal(scores.human, scores.unknown)
        verdict: Verdict = "suspect" if low > self.at_most else "clean"
        flagged = (p_values <= self.false_alarms) & (verdict == "suspect")
        rows = scored_rows(
            scored.row_ids, scores.unknown, flagged=flagged, p_values=p_values,
            reason="its style is that of the anchors",
        )  # fmt: skip
        words = f"{value:.0%} [{low:.0%}, {high:.0%}]"
        return Finding(
            "synthetic.prevalence",
            verdict,
            measure,
            f"{words} of {scores.unknown.size} rows not declared synthetic look machine-made",
            "medium" if verdict == "suspect" else "info",
            p_value=_mixture.differs(scores.human, scores.unknown),
            rows=rows,
            details=self._details(scored, made, counted),
            remedy="ask the source how these rows were made" if verdict == "suspect" else "",
        )

    def _details(self, scored: Scored, made: _mixture.Share, counted: int) -> dict[str, Any]:
        scores = scored.scores
        return {
            "identifiable": True,
            "assumes": "generators among the anchors" if self.generators == "known" else "none",
            "undeclared_share": made.value,
            "undeclared_low": made.low,
            "undeclared_high": made.high,
            "declared_rows": counted,
            "reference_rows": scores.human.size,
            "anchor_rows": scores.machine.size,
            "generators": scored.generators[:50],
        }


@dataclass(frozen=True)
class Scored:
    """Scores by origin, the ids of the unknown rows, and the names of the anchors' generators.

    Args:
        scores: The scores.
        row_ids: uint64, one for each unknown row.
        generators: Sorted names.

    Example:
        >>> none = np.empty(0)
        >>> ids = pl.Series([], dtype=pl.UInt64)
        >>> Scored(Scores(none, none, none.astype(int), none), ids, []).generators
        []
    """

    scores: Scores
    row_ids: pl.Series
    generators: list[str]


def _at_home(texts: pl.Series, kind: Ints, usable: pl.DataFrame) -> None:
    """Abstain where anchors came from another domain without people of their own.

    What sets them apart from the reference is the domain then, and machines of the rows' own
    domain would pass for people.
    """
    if elsewhere(kind):
        return
    groups = np.full(kind.size, -1)
    groups[kind == ANCHOR] = _codes(usable.filter(pl.Series(kind == ANCHOR)))
    lack = lacking(texts, kind == REFERENCE, groups)
    if lack > FOREIGN:
        raise Abstained(
            f"the anchors lack {lack:.0%} of the reference's common words: they are of another"
            " domain, and no rows that people made there are among them"
        )


def _codes(anchors: pl.DataFrame) -> Ints:
    """A number for each maker and place, shape (n,)."""
    named = anchors[MAKER].fill_null("") + "/" + anchors[DOMAIN].fill_null("")
    return named.rank("dense").to_numpy().astype(np.int64)


def _homes(domains: pl.Series, people: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The mean score of people where each anchor comes from, of all people where nobody knows."""
    means = people.group_by(DOMAIN).agg(pl.col("score").mean(), n=pl.len())
    enough = means.filter(pl.col("n") >= _mixture.MIN_GENERATOR_ROWS)
    found = domains.replace_strict(
        enough[DOMAIN], enough["score"], default=people["score"].mean(), return_dtype=pl.Float64
    )
    return found.to_numpy().astype(np.float64)


def _identified(scores: Scores, rng: np.random.Generator, unseen: bool) -> _mixture.Share:  # noqa: FBT001 - one fact
    made = _mixture.share(scores, rng, unseen=unseen)
    if made.why_not:
        raise Abstained(made.why_not)
    return made


def _total(counted: int, n: int, part: tuple[float, float, float], generators: int) -> Estimate:
    """The share of all rows: those declared are counted, the others estimated."""
    value, low, high = ((counted + p * (n - counted)) / n for p in part)
    method = "pacc, bootstrap" if generators < 2 else f"pacc, {generators} generators"
    return Estimate(value, low, high, n=n, method=method)


def _abstained(why: str, n: int, counted: int) -> Finding:
    low = counted / n if n else 0.0
    return Finding.not_evaluated(
        "synthetic.prevalence",
        why,
        measure=Estimate.unknown(low, 1.0, method="not identifiable", n=n),
        details={"identifiable": False, "declared_rows": counted, "why": why},
        remedy="give reference='human.parquet', and rows declared synthetic as anchors",
    )
