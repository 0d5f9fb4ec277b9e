# SPDX-License-Identifier: Apache-2.0
"""`CollapseForecast`: what training on generated data will do to the rare part of this data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.parameters import Count, PositiveShare, Range, Share
from datapipe.core.stage import Stage, Yield
from datapipe.errors import MissingExtra
from datapipe.features.tables import features_of
from datapipe.stages.synthetic import _drift
from datapipe.stages.synthetic._declarations import declared
from datapipe.stages.synthetic._forecast import (
    PAIRS,
    Corpus,
    Forecast,
    corpus,
    excesses,
    forecast,
)
from datapipe.stages.synthetic._recursion import Learner, Plan, PlanName
from datapipe.stages.synthetic._seeds import median
from datapipe.stages.synthetic._table_models import TableModelName
from datapipe.stages.synthetic._table_recursion import table_course
from datapipe.stages.synthetic._tokens import tokens_of

SCENARIOS = (
    *(Plan("replace", share) for share in (1.0, 0.9, 0.75, 0.5, 0.25, 0.1)),
    Plan("accumulate"),
    Plan("subsample"),
)
TABLE_SCENARIOS = (*SCENARIOS[:2], SCENARIOS[3], *SCENARIOS[5:7])
ModelName = Literal["auto", "ngram", "neural", "mixture", "copula"]
TEXT_MODELS, TABLE_MODELS = ("auto", "ngram", "neural"), ("auto", "mixture", "copula")
LEAST_TOKENS, LEAST_RARE, LEAST_ROWS = 2_000, 50, 60
GOLDEN = (math.sqrt(5) - 1) / 2
"""Weight of real data that is best in a linear model; a line to read the others by."""
KEPT = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, GOLDEN, 0.75, 0.9)


@dataclass(frozen=True)
class CollapseForecast(Stage):
    """Forecasts how much of the tail is left after generations of training on generated data.

    *Method:* texts: rare words (at most three occurrences) die like families: in closed form from
    the histogram of counts, the synthetic share and how unevenly a model repeats itself, which one
    simulated generation tells. What has no closed form, and the change in cross-entropy on unseen
    real text, is simulated with an n-gram model on a part of the corpus, or with a small neural
    one. Tables and pictures: mixture models or copulas, each fitted to rows of the one before,
    judged by the likelihood of unseen real rows far out; columns alone do not show it.
    *Assumes:* the model is of the kind that forgets what it rarely sees, and nothing filters what
    it makes.
    *Choose it when:* generated rows will enter the training data of the next model.
    *Fails when:* neither a plan nor a share is known: then it forecasts every plan and says that
    it cannot judge. Entropy and diversity are no alarm: they hardly move while the tail goes.
    *Cost:* one pass over the words; the simulation takes seconds, whatever the size of the data,
    and about a minute with the neural model.

    Args:
        plan: `replace`, `accumulate` or `subsample` (a fixed budget from all that accumulated).
        share: Planned synthetic share of each training set, in [0, 1]; None for what the steps
            before found, else what is declared.
        keep_rows: Real rows that every training set keeps, >= 0; where given, they set the share.
        generations: How many times a model learns from a model's output, 1..100.
        survival_at_least: Tail survival under which the plan is suspect, in [0, 1].
        sample: Share of the corpus that models are run on, in (0, 1].
        repeats: Simulations of each plan, each with a seed of its own, >= 2.
        tail_cut: Whether the sampler never makes what it saw once, as top-p sampling does.
        model: What is simulated: `ngram` or `neural` (needs torch) for texts, `mixture` or
            `copula` for tables and pictures; `auto` for the first that fits.

    Example:
        >>> from pathlib import Path
        >>> import pyarrow as pa
        >>> few = Dataset.of(pa.table({"x": [1.0, 2.0]}))
        >>> CollapseForecast(share=1.0).run(few, Context(0, Path("."))).findings[0].verdict
        'not_evaluated'

    References:
        Shumailov et al., 2024, AI models collapse when trained on recursively generated data.
        Gerstgrasser et al., 2024, Is model collapse inevitable? (2404.01413)
        Kazdan et al., 2024, Collapse or thrive? (2410.16713)
        He, Xu & Cheng, 2025, Golden ratio weighting prevents model collapse (2502.18049)
    """

    plan: PlanName = "replace"
    share: Share | None = None
    keep_rows: Count = 0
    generations: Annotated[int, Range(1, 100)] = 8
    survival_at_least: Share = 0.5
    sample: PositiveShare = 0.2
    repeats: Annotated[int, Range(2)] = 3
    tail_cut: bool = False
    model: ModelName = "auto"

    name: ClassVar[str] = "synthetic.collapse"
    uses: ClassVar[tuple[str, ...]] = ("findings",)
    raises_findings: ClassVar[tuple[str, ...]] = ("synthetic.collapse",)
    references: ClassVar[tuple[str, ...]] = (
        "Shumailov et al., 2024, AI models collapse when trained on recursively generated data",
        "Gerstgrasser et al., 2024, Is model collapse inevitable? (2404.01413)",
        "Kazdan et al., 2024, Collapse or thrive? (2410.16713)",
        "He, Xu & Cheng, 2025, Golden ratio weighting prevents model collapse (2502.18049)",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Forecast the tail.

        Args:
            data: Real rows, or the mixture that a model is trained on.
            context: Its findings tell the share where none is planned; seeds the simulations.

        Returns:
            One finding with the curves of the plan and of every scenario.

        Example:
            >>> from pathlib import Path
            >>> from datapipe.core.dataset import empty
            >>> CollapseForecast().run(empty(), Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        share, whence = self._planned(data, context)
        plan = Plan(self.plan, 1.0 if share is None else share, self.tail_cut)
        known = share is not None or self.plan != "replace"
        if "text" in data.roles and "image" not in data.roles:
            finding = self._text(data, context, plan, known=known, whence=whence)
        else:
            finding = self._table(data, context, plan, known=known, whence=whence)
        return Yield(findings=(finding,))

    def _planned(self, data: Dataset, context: Context) -> tuple[float | None, str]:
        """The synthetic share of the next training set, and who says so."""
        n = len(data)
        if self.keep_rows and n:
            return max(0.0, 1.0 - self.keep_rows / n), "real rows kept"
        if self.share is not None:
            return self.share, "planned"
        for finding in reversed(context.findings):
            if finding.kind == "synthetic.prevalence" and finding.verdict != "not_evaluated":
                return finding.measure.high, "upper bound of synthetic.prevalence"
        told = (
            declared(data, "", (), card="")["synthetic"] if n else pl.Series([], dtype=pl.Boolean)
        )
        if n and not told.null_count():
            return int(told.sum()) / n, "declared"
        return None, "unknown"

    def _text(
        self, data: Dataset, context: Context, plan: Plan, *, known: bool, whence: str
    ) -> Finding:
        if self.model not in TEXT_MODELS:
            return _silent(f"model={self.model} is for tables, and this is text", len(data))
        learner = _learner(self.model)
        tokens = tokens_of(data.values("text"))
        made = (
            corpus(tokens, len(data), self.sample, context.rng("sample")) if tokens.kinds else None
        )
        if made is None or made.train.size < LEAST_TOKENS or made.counts.rare < LEAST_RARE:
            size = 0 if made is None else made.train.size
            return _silent(
                f"{size} words in the sample; at least {LEAST_TOKENS} with {LEAST_RARE} rare kinds"
                " are needed",
                len(data),
            )
        excess = excesses(made, self._seeds(context, "excess"), learner)
        own = self._forecast(made, plan, context, excess, learner)
        others = [
            self._forecast(made, replace(s, truncated=self.tail_cut), context, excess, learner)
            for s in SCENARIOS
        ]
        typical = float(np.mean(excess))
        details = {
            "share_from": whence,
            "model": "neural" if self.model == "neural" else "ngram",
            "excess": typical,
            "tokens": made.counts.tokens,
            "rare_kinds": made.counts.rare,
            "sample_tokens": int(made.train.size),
            "exact": own.exact,
            **self._outlook(made, plan, typical),
        }
        return self._finding(own, others, details, known=known, n=made.counts.rare)

    def _forecast(
        self, made: Corpus, plan: Plan, context: Context, excess: np.ndarray[Any, Any],
        learner: Learner,
    ) -> Forecast:  # fmt: skip
        seeds = self._seeds(context, str(plan))
        return forecast(made, plan, self.generations, seeds, excess, learner=learner)

    def _seeds(self, context: Context, salt: str) -> list[np.random.Generator]:
        return [context.rng(f"{salt} {i}") for i in range(self.repeats)]

    def _outlook(self, made: Corpus, plan: Plan, excess: float) -> dict[str, Any]:
        """What follows from the closed form: half-life, the largest share, real rows kept."""
        counts, k = made.counts, self.generations
        share = plan.share if plan.name == "replace" else 0.0
        half = _drift.generations_to_half(counts, share, kept=1.0 - share, excess=excess)
        kept = {
            f"{r:.3g}": float(_drift.survival(counts, k, 1.0 - r, kept=r, excess=excess)[-1])
            for r in KEPT
        }
        return {
            "generations_to_half": half or None,
            "largest_share": _drift.largest_share(counts, k, self.survival_at_least, excess=excess),
            "survival_by_real_share_kept": kept,
            "golden_ratio": GOLDEN,
        }

    def _table(
        self, data: Dataset, context: Context, plan: Plan, *, known: bool, whence: str
    ) -> Finding:
        if self.model not in TABLE_MODELS:
            return _silent(f"model={self.model} is for texts, and this is a table", len(data))
        if not data.features and "image" not in data.roles:
            return _silent("no column can be used: give the role text or image", len(data))
        made = features_of(data)
        values = made.values[~made.incomplete].astype(np.float64)
        values = values[:, values.std(0) > 0] if values.size else values
        if values.shape[0] < LEAST_ROWS or not values.shape[1]:
            return _silent(
                f"{values.shape[0]} complete rows; at least {LEAST_ROWS} are needed", len(data)
            )
        own = self._table_forecast(values, plan, context, max(self.repeats, 5))
        others = [self._table_forecast(values, s, context, self.repeats) for s in TABLE_SCENARIOS]
        details = {
            "share_from": whence,
            "model": self._table_model(),
            "rows": values.shape[0],
            "exact": False,
        }
        return self._finding(own, others, details, known=known, n=values.shape[0])

    def _table_model(self) -> TableModelName:
        return "copula" if self.model == "copula" else "mixture"

    def _table_forecast(
        self, values: np.ndarray[Any, Any], plan: Plan, context: Context, repeats: int
    ) -> Forecast:
        """Survival is the root of the likelihood of far real rows, against the first model's.

        The root, as in Hellinger's affinity, so that one half is a loss that no chance explains.
        Of several seeds the middle one counts: a component that shrank on a few rows makes the
        loss of one seed larger than that of all others together.
        """
        seeds = [context.rng(f"table {i}") for i in range(repeats)]
        model = self._table_model()
        runs = [table_course(values, plan, self.generations, rng, model=model) for rng in seeds]
        loss = [median([r[g] for r in runs]) for g in range(self.generations + 1)]
        left = tuple(
            Estimate(
                _root(e.value), _root(e.high), _root(e.low), n=len(runs), method="seeds, median",
                level=e.level,
            )
            for e in loss
        )  # fmt: skip
        return Forecast(plan, left, tuple(loss), exact=False)

    def _finding(
        self, own: Forecast, others: Sequence[Forecast], details: dict[str, Any], *, known: bool,
        n: int,
    ) -> Finding:  # fmt: skip
        last = own.survival[-1]
        details = {**details, "forecast": own.to_json(), "scenarios": [f.to_json() for f in others]}
        if not known:
            worst = min(f.survival[-1].low for f in others)
            return Finding.not_evaluated(
                "synthetic.collapse",
                "no synthetic share is planned, declared or estimated;"
                f" with nothing but generated data {last.value:.0%} of the tail would be left"
                f" after {self.generations} generations",
                measure=Estimate.unknown(worst, 1.0, method="no share is planned", n=n),
                details={**details, "risk": "not_identifiable"},
                remedy="say what is planned: share=0.2, or keep_rows=1000",
            )
        suspect = last.high < self.survival_at_least
        watch = not suspect and last.low < self.survival_at_least
        details["risk"] = "collapse_risk" if suspect else "watch" if watch else "ok"
        return Finding(
            "synthetic.collapse",
            "suspect" if suspect else "clean",
            replace(last, n=n),
            f"{own.plan}: {last.value:.0%} of the tail is left after {self.generations}"
            " generations",
            "medium" if suspect else "info",
            details=details,
            remedy="keep more real rows, or add generated rows instead of replacing"
            if suspect
            else "",
        )


def _learner(model: str) -> Learner:
    """The learner of a model of texts; torch is loaded for the neural one only."""
    if model != "neural":
        return PAIRS
    try:
        from datapipe.stages.synthetic._neural import neural  # noqa: PLC0415 - only when asked
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "synthetic.collapse with model='neural' needs the package 'torch'",
            hint="pip install 'datapipe[train]'",
        ) from error
    return neural


def _root(loss: float) -> float:
    return min(1.0, math.exp(-loss / 2))


def _silent(why: str, n: int) -> Finding:
    return Finding.not_evaluated(
        "synthetic.collapse",
        why,
        measure=Estimate.unknown(method="too little data", n=n),
        details={"why": why, "risk": "not_identifiable"},
        remedy="give more rows, or a larger sample=",
    )
