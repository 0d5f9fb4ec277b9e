# SPDX-License-Identifier: Apache-2.0
"""How many labels are wrong, from a few rows that experts check: which rows, and what follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Design = Literal["stratified", "difference"]

FEWEST = 2
"""Rows that are checked of a stratum at least."""
ROWS_A_STRATUM = 20
MOST_STRATA = 10
DOUBT = 0.002
"""Smallest chance of an error that a row is planned with: no score is certain."""
SHARE_OF_MEAN = 0.05
"""The same, as a share of the mean score: where errors abound, surer rows hide some too."""
PRIOR_ROWS = 1.0
"""Checked rows that the scores' own mean counts for in a stratum."""
DRAWS = 20_000


@dataclass(frozen=True, eq=False)
class AuditPlan:
    """Which rows experts shall check.

    Args:
        rows: int64, shape (m,): places of the rows.
        stratum: int64, shape (m,): each row's stratum.
        sizes: int64, shape (H,): rows of the whole in each stratum.
        expected: float64, shape (H,): mean score of each stratum.
        design: `stratified`, or `difference` for a simple random sample beside the scores.

    Example:
        >>> plan_audit(np.linspace(0, 1, 500), 50, np.random.default_rng(0)).rows.size
        50
    """

    rows: Ints
    stratum: Ints
    sizes: Ints
    expected: Floats
    design: Design


@dataclass(frozen=True)
class ExpertErrors:
    """How often experts err, for the correction of what they found.

    Args:
        missed: Chance that a wrong label passes all of them, in [0, 1).
        invented: Chance that a right label is called wrong by all of them, in [0, 1).
        n: Rows that this rests on; 0 for a statement.

    Example:
        >>> ExpertErrors(0.0, 0.0, 0).missed
        0.0
    """

    missed: float
    invented: float
    n: int


@dataclass(frozen=True)
class RateAnswer:
    """Whether a noise rate is what somebody claims.

    Args:
        answer: `yes` when the interval holds the claim and nothing that differs by more than the
            tolerance, `no` when it excludes the claim, else `cannot tell`.
        claimed: The rate asked for.
        tolerance: How far from the claim still counts as the claim.
        needed: Rows to be checked in all before the answer is likely to be known.

    Example:
        >>> is_rate(Estimate.rate(2, 200), 0.20).answer
        'no'
    """

    answer: Literal["yes", "no", "cannot tell"]
    claimed: float
    tolerance: float
    needed: int


def plan_audit(
    scores: Floats, m: int, rng: np.random.Generator, *, design: Design = "stratified"
) -> AuditPlan:
    """Choose the rows whose check says most about the noise rate.

    Rows are sorted by their score and cut so that every stratum carries the same share of the
    expected uncertainty; then equal numbers a stratum are Neyman's allocation.

    Args:
        scores: float in [0, 1], shape (n,): each label's chance of being wrong, as far as known.
        m: How many rows experts will check, >= 2.
        rng: Draws the rows.
        design: `stratified`, or `difference` for a simple random sample.

    Returns:
        The plan, never more than `m` rows.

    Raises:
        DeclarationError: `m` is below 2, or a score is not a chance.

    Example:
        >>> plan = plan_audit(np.repeat([0.01, 0.9], [900, 100]), 60, np.random.default_rng(0))
        >>> int((plan.rows >= 900).sum()) > 6  # more than their share
        True

    References:
        Neyman, 1934, On the two different aspects of the representative method; Dalenius & Hodges,
        1959, Minimum variance stratification.
    """
    n = scores.size
    if m < FEWEST or not n:
        raise DeclarationError(
            f"an audit of {m} of {n} rows says nothing", hint=f"check at least {FEWEST} rows"
        )
    if not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
        raise DeclarationError("scores must be chances between 0 and 1")
    m = min(m, n)
    if design == "difference":
        rows = np.sort(rng.choice(n, m, replace=False))
        mean = np.array([scores.mean()])
        return AuditPlan(rows, np.zeros(m, np.int64), np.array([n]), mean, design)
    chance = np.clip(scores, max(DOUBT, SHARE_OF_MEAN * float(scores.mean())), 1 - DOUBT)
    spread = np.sqrt(chance * (1 - chance))
    order = rng.permutation(n)
    order = order[np.argsort(scores[order], kind="stable")]
    strata = int(np.clip(m // ROWS_A_STRATUM, 1, MOST_STRATA))
    mass = np.cumsum(spread[order])
    stratum = np.minimum((mass / mass[-1] * strata * (1 - 1e-12)).astype(np.int64), strata - 1)
    _, stratum = np.unique(stratum, return_inverse=True)
    sizes = np.bincount(stratum)
    counts = _allocated(np.bincount(stratum, spread[order]), sizes, m)
    starts = np.cumsum(sizes) - sizes
    # rows within a stratum of equal score lie in random order: any run of them is a random sample
    picks = [
        order[first : first + size][rng.choice(size, count, replace=False)]
        for first, size, count in zip(starts, sizes, counts, strict=True)
    ]
    expected = np.bincount(stratum, scores[order]) / sizes
    return AuditPlan(
        np.concatenate(picks), np.repeat(np.arange(sizes.size), counts), sizes, expected, design
    )


def _allocated(spread: Floats, sizes: Ints, m: int) -> Ints:
    """Whole numbers in proportion to the spread: never above m in all nor a stratum's size."""
    counts = np.minimum(sizes, FEWEST)
    while counts.sum() > m:
        counts[counts.argmax()] -= 1
    while counts.sum() < m:
        need = np.where(counts < sizes, spread / (counts + 0.5), -1.0)
        step = max(1, (m - int(counts.sum())) // (4 * counts.size))
        best = int(need.argmax())
        counts[best] += min(step, int(sizes[best] - counts[best]), m - int(counts.sum()))
    return counts


def noise_rate(
    plan: AuditPlan,
    wrong: Bools,
    *,
    scores: Floats | None = None,
    experts: ExpertErrors | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """The share of wrong labels in the whole, from the rows that experts checked.

    Each stratum's rate has a beta posterior whose prior is one row of the scores' own mean; rows
    that were not checked are drawn from it, rows that were checked are known. What experts miss
    and invent is taken out.

    Args:
        plan: The plan; rows that were not checked may be left out of it.
        wrong: bool, shape (m,): whether each planned row's label is wrong.
        scores: float in [0, 1], shape (n,): of all rows; needed for the design `difference`.
        experts: How often experts err together; None takes them for right.
        level: Coverage of the interval, in (0, 1).
        seed: Of the posterior draws.

    Returns:
        The rate with its interval; n is the number of rows checked.

    Raises:
        DeclarationError: The answers do not fit the plan.

    Example:
        >>> scores = np.repeat([0.01, 0.9], [900, 100])
        >>> plan = plan_audit(scores, 60, np.random.default_rng(0))
        >>> made = noise_rate(plan, plan.rows >= 910)
        >>> made.low < 0.09 < made.high
        True

    References:
        Cochran, 1977, Sampling techniques; Angelopoulos et al., 2023, Prediction-powered
        inference; Rogan & Gladen, 1978, Estimating prevalence from a screening test.
    """
    if wrong.shape != plan.rows.shape:
        raise DeclarationError(f"{wrong.size} answers for {plan.rows.size} planned rows")
    if not wrong.size:
        return Estimate.unknown(method="no row was checked", level=level)
    errors = experts or ExpertErrors(0.0, 0.0, 0)
    if plan.design == "difference":
        return _difference(plan, wrong, scores, errors, level)
    rng = np.random.default_rng(seed)
    checked = np.bincount(plan.stratum, minlength=plan.sizes.size)
    hits = np.bincount(plan.stratum, wrong, minlength=plan.sizes.size)
    centre = np.clip(plan.expected, DOUBT, 1 - DOUBT)
    a, b = hits + PRIOR_ROWS * centre, checked - hits + PRIOR_ROWS * (1 - centre)
    rate = rng.beta(a, b, (DRAWS, a.size))
    rest = np.maximum(plan.sizes - checked, 0)
    total = (hits + rng.binomial(rest, rate)).sum(1) / plan.sizes.sum()
    point = float(((hits + rest * a / (a + b)).sum()) / plan.sizes.sum())
    total = _corrected(total, errors, rng)
    value = float(_corrected(np.array([point]), errors, None)[0])
    low, high = (float(q) for q in np.quantile(total, [(1 - level) / 2, (1 + level) / 2]))
    method = f"audit, {plan.sizes.size} strata" + (", experts corrected" if experts else "")
    return Estimate(
        value, min(low, value), max(high, value), n=wrong.size, method=method, level=level
    )


def _difference(
    plan: AuditPlan, wrong: Bools, scores: Floats | None, errors: ExpertErrors, level: float
) -> Estimate:
    if scores is None or scores.size != int(plan.sizes.sum()):
        raise DeclarationError(
            "the design `difference` needs the scores of all rows", hint="give scores=..."
        )
    own = scores[plan.rows]
    # the slope that leaves least: 0 where scores say nothing, so it never loses to plain sampling
    spread = float(own.var())
    slope = float(np.cov(own, wrong, ddof=0)[0, 1]) / spread if spread > 0 else 0.0
    rest = wrong - slope * own
    value = float(slope * scores.mean() + rest.mean())
    share = 1 - wrong.size / scores.size
    sd = float(rest.std(ddof=min(2, wrong.size - 1)))
    half = _z(level) * sd * math.sqrt(share / wrong.size) + share / (2 * wrong.size)
    ends = _corrected(np.array([value, value - half, value + half]), errors, None)
    value, low, high = (float(x) for x in np.clip(ends, 0.0, 1.0))
    return Estimate(value, low, high, n=wrong.size, method="audit, difference", level=level)


def _corrected(rate: Floats, errors: ExpertErrors, rng: np.random.Generator | None) -> Floats:
    """Rogan and Gladen's correction; with draws, what is not known of experts is drawn too."""
    missed: float | Floats = errors.missed
    invented: float | Floats = errors.invented
    if rng is not None and errors.n:
        missed = rng.beta(
            errors.missed * errors.n + 0.5, (1 - errors.missed) * errors.n + 0.5, rate.size
        )
        invented = rng.beta(
            errors.invented * errors.n + 0.1, (1 - errors.invented) * errors.n + 0.5, rate.size
        )
    made: Floats = np.clip((rate - invented) / np.maximum(1e-9, 1 - missed - invented), 0.0, 1.0)
    return made


def expert_errors(first: Bools, second: Bools, adjudicated: Bools) -> ExpertErrors:
    """How often two experts err alike, from where they differ and a third decides.

    Where experts differ one of them errs, and the third says which; independent errors then say
    how often both err alike and nobody notices.

    Args:
        first: bool, shape (m,): the first expert calls the label wrong.
        second: bool, shape (m,): the second does.
        adjudicated: bool, shape (m,): what was decided where they differ; read only there.

    Returns:
        The chances that both miss a wrong label, and that both call a right one wrong.

    Raises:
        DeclarationError: The arrays differ in length.

    Example:
        >>> yes, no = np.ones(40, bool), np.zeros(40, bool)
        >>> expert_errors(np.r_[yes, no], np.r_[yes, no], np.r_[yes, no]).missed
        0.0

    References:
        Walter & Irwig, 1988, Estimation of test error rates, disease prevalence and relative risk
        from misclassified data.
    """
    if not first.size == second.size == adjudicated.size:
        raise DeclarationError("two experts and the decision must be of the same rows")
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    differs = first != second

    def alike(agree: int, truth: bool) -> float:
        decided = differs & (adjudicated == truth)
        errs = [int((decided & (e != truth)).sum()) for e in (first, second)]
        # n(one errs) / n(none errs) are the odds of an error
        return math.prod(x / (x + agree) if x + agree else 0.0 for x in errs)

    return ExpertErrors(alike(both, truth=True), alike(neither, truth=False), int(first.size))


def final_word(first: Bools, second: Bools, adjudicated: Bools) -> Bools:
    """What two experts and a third who decides come to.

    Args:
        first: bool, shape (m,).
        second: bool, shape (m,).
        adjudicated: bool, shape (m,); read where the two differ.

    Returns:
        bool, shape (m,).

    Example:
        >>> final_word(np.array([True]), np.array([False]), np.array([True])).tolist()
        [True]
    """
    return np.where(first == second, first, adjudicated)


def is_rate(estimate: Estimate, claimed: float, *, tolerance: float | None = None) -> RateAnswer:
    """Whether a noise rate is the one somebody claims: yes, no, or cannot tell.

    Args:
        estimate: An audited rate.
        claimed: The rate, in [0, 1].
        tolerance: How far from the claim still counts as the claim; None for a quarter of it.

    Returns:
        The answer, and how many rows would have to be checked to know.

    Raises:
        DeclarationError: The claim is not a rate.

    Example:
        >>> is_rate(Estimate.rate(40, 200), 0.20).answer
        'cannot tell'
        >>> is_rate(Estimate.rate(400, 2000), 0.20).answer
        'yes'
    """
    if not 0 <= claimed <= 1:
        raise DeclarationError(f"{claimed} is no rate", hint="give a share, such as 0.20")
    margin = max(0.25 * claimed, 0.01) if tolerance is None else tolerance
    low, high, n = estimate.low, estimate.high, estimate.n
    if high < claimed or low > claimed:
        return RateAnswer("no", claimed, margin, n)
    if low >= claimed - margin and high <= claimed + margin:
        return RateAnswer("yes", claimed, margin, n)
    centre = estimate.value if math.isfinite(estimate.value) else 0.5 * (low + high)
    half = max(high - low, 1e-9) / 2
    off = abs(centre - claimed)
    wanted = max(off, margin - off, margin / 4)  # whichever of `no` and `yes` is nearer
    return RateAnswer(
        "cannot tell", claimed, margin, math.ceil(max(n, 1) * (half / wanted) ** 2) + 1
    )


def _z(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + level / 2)
