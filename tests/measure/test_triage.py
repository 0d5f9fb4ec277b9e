# SPDX-License-Identifier: Apache-2.0
"""Budgets buy the most errors, plans say stop, and rare rows are found without bias."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.errors import DeclarationError
from datapipe.measure.triage import prevalence, rare_plan, relabel_plan, route


def test_a_budget_buys_most_of_the_errors_and_the_plan_says_stop():
    rng = np.random.default_rng(0)
    chance = rng.beta(0.15, 3.0, 10_000)
    wrong = rng.random(10_000) < chance
    plan = relabel_plan(chance, budget=500)
    share = wrong[plan.rows].sum() / wrong.sum()
    assert share > 5 * 500 / 10_000
    assert plan.removed[-1] == pytest.approx(wrong[plan.rows].sum(), rel=0.15)
    whole = relabel_plan(chance, budget=10_000, least=0.1)
    assert (chance[whole.rows[: whole.stop]] >= 0.1).all()
    assert (chance[whole.rows[whole.stop :]] < 0.1).all()
    dear = relabel_plan(np.array([0.9, 0.8]), budget=3, cost=np.array([9.0, 1.0]))
    assert dear.rows.tolist() == [1]
    with pytest.raises(DeclarationError, match="budget"):
        relabel_plan(chance, budget=0)


def test_scarce_experts_go_where_others_would_err():
    scores = np.array([0.99] * 10 + [0.5] * 10 + [0.0] * 10)
    who = route(scores, np.array([0.8, 0.99]), np.array([1.0, 5.0]), budget=60)
    assert (who[20:] == -1).all()
    assert (who[10:20] == 1).sum() >= (who[:10] == 1).sum()
    spent = np.array([1.0, 5.0])[who[who >= 0]].sum()
    assert spent <= 60


def test_rare_rows_are_found_and_their_share_is_told_without_bias():
    rng = np.random.default_rng(1)
    n, m, repeats = 20_000, 400, 400
    positive = np.zeros(n, bool)
    positive[rng.choice(n, 100, replace=False)] = True
    scores = 1 / (1 + np.exp(-(np.where(positive, 1.5, -3.5) + rng.normal(0, 1.8, n))))
    found, told, held = [], [], 0
    for seed in range(repeats):
        plan = rare_plan(scores, m, np.random.default_rng(seed))
        assert plan.rows.size <= m
        found.append(int(positive[plan.rows].sum()))
        made = prevalence(plan, positive[plan.rows])
        told.append(made.value)
        held += made.low <= 0.005 <= made.high
    assert np.mean(found) >= 5 * m * 0.005
    assert np.mean(told) == pytest.approx(0.005, rel=0.06)
    assert held / repeats >= 0.93
