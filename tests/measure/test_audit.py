# SPDX-License-Identifier: Apache-2.0
"""Audited rates cover the truth, cost fewer rows than plain sampling, and allow for errors."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError
from datapipe.measure.audit import expert_errors, final_word, is_rate, noise_rate, plan_audit


def world(seed=0, n=6000):
    """Rows whose error chances are skewed as those of real labels, scored a little too surely."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 3.2, n) - 6.8
    wrong = rng.random(n) < 1 / (1 + np.exp(-logit))
    return 1 / (1 + np.exp(-1.2 * logit)), wrong


def coverage(scores, wrong, m, repeats, design="stratified"):
    held, half, plain = 0, 0.0, 0.0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        plan = plan_audit(scores, m, rng, design=design)
        made = noise_rate(plan, wrong[plan.rows], scores=scores[plan.rows])
        held += made.low <= wrong.mean() <= made.high
        half += (made.high - made.low) / 2 / repeats
        simple = Estimate.rate(int(wrong[rng.choice(wrong.size, m, replace=False)].sum()), m)
        plain += (simple.high - simple.low) / 2 / repeats
    return held / repeats, half / plain


def test_the_interval_covers_and_is_far_narrower_than_plain_sampling():
    scores, wrong = world()
    covered, ratio = coverage(scores, wrong, 200, 400)
    assert covered >= 0.93
    assert ratio <= 0.65
    covered, ratio = coverage(scores, wrong, 200, 200, design="difference")
    assert covered >= 0.9
    assert ratio <= 1.0


def test_scores_worth_nothing_cost_width_not_truth():
    scores, wrong = world()
    covered, _ = coverage(np.random.default_rng(0).permutation(scores), wrong, 200, 200)
    assert covered >= 0.9


def test_the_budget_is_kept_whatever_the_scores():
    rng = np.random.default_rng(1)
    for scores in (np.zeros(50), np.ones(50), np.repeat([0.0, 1.0], [45, 5]), rng.random(3)):
        for m in (2, 3, 20, 500):
            plan = plan_audit(scores, m, rng)
            assert plan.rows.size == min(m, scores.size)
            assert np.unique(plan.rows).size == plan.rows.size
            made = noise_rate(plan, np.zeros(plan.rows.size, bool))
            assert made.low == 0
    with pytest.raises(DeclarationError, match="chances"):
        plan_audit(np.array([0.5, np.nan]), 2, rng)
    with pytest.raises(DeclarationError, match="says nothing"):
        plan_audit(np.array([0.5, 0.5]), 1, rng)


def test_two_experts_and_a_third_are_corrected_for_what_all_miss():
    rng = np.random.default_rng(2)
    n = 40_000
    truth = rng.random(n) < 0.3
    first, second = (np.where(truth, rng.random(n) > 0.2, rng.random(n) < 0.05) for _ in range(2))
    word = final_word(first, second, truth)
    errors = expert_errors(first, second, truth)
    assert errors.missed == pytest.approx(0.04, abs=0.01)
    assert errors.invented == pytest.approx(0.0025, abs=0.001)
    plan = plan_audit(np.full(n, 0.3), n, rng)
    plain = noise_rate(plan, word[plan.rows])
    mended = noise_rate(plan, word[plan.rows], experts=errors)
    assert abs(mended.value - truth.mean()) < 0.5 * abs(plain.value - truth.mean())


def test_a_claim_is_answered_yes_no_or_cannot_tell():
    assert is_rate(Estimate.rate(12, 300), 0.2).answer == "no"
    assert is_rate(Estimate.rate(800, 4000), 0.2).answer == "yes"
    unsure = is_rate(Estimate.rate(18, 100), 0.2)
    assert unsure.answer == "cannot tell"
    assert unsure.needed > 100
    with pytest.raises(DeclarationError, match="no rate"):
        is_rate(Estimate.rate(1, 10), 20)
