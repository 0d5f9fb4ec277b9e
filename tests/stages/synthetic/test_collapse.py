# SPDX-License-Identifier: Apache-2.0
"""CollapseForecast: a part of the corpus foretells the whole recursion; no plan, no verdict."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, empty
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.gate import Gate
from datapipe.core.roles import Roles
from datapipe.errors import GateClosed
from datapipe.stages import CollapseForecast
from datapipe.stages.synthetic import (
    collapse,
    expect_no_undeclared_generator,
    expect_synthetic_share_upper_bound_below,
    expect_tail_survival_above,
)
from datapipe.stages.synthetic._drift import (
    drifted,
    extinct,
    fitted_excess,
    generations_to_half,
    histogram,
    largest_share,
    survival,
)  # fmt: skip
from datapipe.stages.synthetic._forecast import PAIRS, excesses, forecast
from datapipe.stages.synthetic._forecast import corpus as part_of
from datapipe.stages.synthetic._language import learnt
from datapipe.stages.synthetic._neural import neural
from datapipe.stages.synthetic._recursion import Plan, ngrams, recursion
from datapipe.stages.synthetic._seeds import median
from datapipe.stages.synthetic._table_models import copula, mixture
from datapipe.stages.synthetic._table_recursion import table_course
from datapipe.stages.synthetic._tokens import tokens_of

PLANS = [
    *(Plan("replace", p) for p in (1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.0)),
    Plan("accumulate"), Plan("subsample"), Plan("replace", 1.0, truncated=True),
]  # fmt: skip


def spelt(number):
    """A number as a word of letters."""
    return "".join("abcdefghij"[int(d)] for d in str(number))


@lru_cache(maxsize=2)
def corpus(seed=0, n=300, words=160):
    """Texts with topics: words follow each other, and rare ones come in bursts."""
    rng = np.random.default_rng(seed)
    kinds = 9_000
    use = np.cumsum(np.arange(1, kinds + 1) ** -1.05)
    use /= use[-1]
    rows = []
    for _ in range(n):
        own = rng.integers(0, kinds, 12)
        word, made = 0, []
        for _ in range(words):
            draw = np.searchsorted(use, rng.random())
            word = (
                int(own[rng.integers(12)])
                if rng.random() < 0.06
                else (draw + 31 * (word % 7)) % kinds
            )
            made.append(spelt(word))
        rows.append(" ".join(made))
    return rows


def data_of(rows):
    return Dataset.of(pl.DataFrame({"t": rows}), Roles.of(text="t"))


def judged(data, findings=(), **parameters):
    context = Context(5, Path(), findings=findings)
    return CollapseForecast(**parameters).run(data, context).findings[0]


def spearman(a, b):
    rank = [np.argsort(np.argsort(x, kind="stable"), kind="stable") for x in (a, b)]
    return float(np.corrcoef(*rank)[0, 1])


def test_a_fifth_of_the_corpus_foretells_the_whole_recursion():
    rows = corpus()
    found = judged(data_of(rows), share=1.0, sample=0.2, repeats=2)
    kinds = {w: i for i, w in enumerate(sorted({w for r in rows for w in r.split()}))}
    ids = np.array([kinds[w] for r in rows for w in r.split()])
    train, unseen = ids[: -ids.size // 10], ids[-ids.size // 10 :]
    seen, truth, bits, true_bits = [], [], [], []
    for told in found.details["scenarios"][::2]:  # all of them under `make power`
        plan = Plan(told["regime"], told["share"])
        whole = recursion(train, unseen, plan, 8, np.random.default_rng(9), learner=ngrams(3))
        seen += told["tail_survival"][1:]
        truth += whole.survival[1:].tolist()
        bits += told["cross_entropy_change"][1:]
        true_bits += (whole.surprise[1:] - whole.surprise[0]).tolist()
    assert spearman(seen, truth) >= 0.95
    assert np.abs(np.array(seen) - np.array(truth)).max() <= 0.06
    assert spearman(bits, true_bits) >= 0.9
    assert found.verdict == "suspect"
    assert found.details["risk"] == "collapse_risk"
    assert found.details["exact"]


@pytest.mark.power
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("domain", ["writing", "xsum", "arxiv"])
def test_a_fifth_of_real_texts_foretells_eleven_regimes(real_texts, domain):
    """Trigrams on all texts of people are the truth, pairs on a fifth of them the forecast."""
    rows = real_texts.filter(
        pl.col("domain") == domain, pl.col("label") == 0, pl.col("cell").str.starts_with("detectrl")
    )
    tokens = tokens_of(rows["text"])
    figures = foretold(tokens, rows.height, ngrams(3), PAIRS)
    assert figures["survival, rank"] >= 0.98, figures
    assert figures["survival, worst error"] <= 0.06, figures
    assert figures["cross-entropy, rank"] >= 0.98, figures


@pytest.mark.power
@pytest.mark.timeout(6000)
def test_a_fifth_of_real_texts_foretells_what_a_neural_model_does(real_texts):
    """All regimes on sixty texts, because a network is trained in every generation of each.

    One run of the whole recursion ranks another only as well as this asks for (0.983), so that the
    forecast is held to the mean of three.
    """
    rows = real_texts.filter(
        pl.col("cell") == "detectrl/writing", pl.col("label") == 0
    ).head(60)  # fmt: skip
    figures = foretold(tokens_of(rows["text"]), rows.height, neural, neural, runs=3)
    assert figures["survival, rank"] >= 0.95, figures
    assert figures["survival, worst error"] <= 0.06, figures
    assert figures["cross-entropy, rank"] >= 0.98, figures


def foretold(tokens, rows, truth, learner, *, plans=PLANS, generations=8, runs=1):
    """The forecast from a fifth against the whole recursion, over regimes and generations."""
    cut = tokens.ids.size * 9 // 10
    train, unseen = tokens.ids[:cut], tokens.ids[cut:]
    made = part_of(tokens, rows, 0.2, np.random.default_rng(1))
    seeds = [[np.random.default_rng(s) for s in range(3)] for _ in range(1 + len(plans))]
    excess = excesses(made, seeds[0], learner)
    told, seen = [], []
    for plan, own in zip(plans, seeds[1:], strict=True):
        said = forecast(made, plan, generations, own, excess, learner=learner)
        whole = [
            recursion(train, unseen, plan, generations, np.random.default_rng(9 + s), learner=truth)
            for s in range(runs)
        ]
        told += [(a.value, b.value) for a, b in zip(said.survival, said.surprise, strict=True)][1:]
        courses = [(w.survival[1:], w.surprise[1:] - w.surprise[0]) for w in whole]
        seen += [*np.mean(courses, axis=0).T]
    one, other = np.array(told), np.array(seen)
    return {
        "survival, rank": spearman(one[:, 0], other[:, 0]),
        "survival, worst error": float(np.abs(one - other)[:, 0].max()),
        "cross-entropy, rank": spearman(one[:, 1], other[:, 1]),
    }


@pytest.mark.power
def test_a_neural_model_forgets_what_is_rare(monkeypatch):
    monkeypatch.setattr(collapse, "SCENARIOS", (Plan("replace", 0.1),))
    data = data_of(corpus()[:60])
    found = judged(data, share=1.0, model="neural", sample=0.4, repeats=2, generations=2)
    assert found.details["model"] == "neural"
    assert found.verdict != "not_evaluated"
    told = found.details["forecast"]
    assert told["tail_survival"][2] < told["tail_survival"][1] < 0.8
    kept = next(s for s in found.details["scenarios"] if s["plan"] == "replace 10%")
    assert told["cross_entropy_change"][2] > kept["cross_entropy_change"][2]


def test_a_neural_model_learns_what_follows_what():
    rng = np.random.default_rng(6)
    follows = rng.permutation(40)
    tokens = np.zeros(12_000, np.int64)
    for i in range(1, tokens.size):
        tokens[i] = follows[tokens[i - 1]] if rng.random() < 0.8 else rng.integers(40)
    model, twin = (neural(tokens, 50, np.random.default_rng(8)) for _ in range(2))
    assert np.array_equal(model.surprise(tokens), twin.surprise(tokens))
    assert model.surprise(tokens).mean() < 4.0  # 5.3 bits without its context
    made = model.drawn(3_000, rng)
    assert made.max() < 40  # the other ten never occurred
    assert (follows[made[:-1]] == made[1:]).mean() > 0.5
    every = np.array([model.surprise(np.array([3, 7, w]))[2] for w in range(50)])
    assert (2.0**-every).sum() == pytest.approx(1.0, abs=1e-4)


def test_models_are_of_texts_or_of_tables():
    assert "is for tables" in judged(data_of(corpus()), share=1.0, model="copula").says
    table = Dataset.of(pl.DataFrame({"x": np.arange(99.0), "y": np.arange(99.0) ** 2}))
    assert "is for texts" in judged(table, share=1.0, model="neural").says


def test_the_closed_form_is_the_drift_of_counts():
    rng = np.random.default_rng(1)
    counts = rng.zipf(1.6, 6_000)
    counts = counts[counts < 5_000]
    for share in (1.0, 0.75, 0.25):
        runs = [
            drifted(counts, 8, np.random.default_rng(s), plan="replace", share=share)
            for s in range(6)
        ]
        made = survival(histogram(counts), 8, share, kept=1 - share)
        assert np.abs(np.mean(runs, 0) - made).max() <= 0.03


def test_accumulation_keeps_everything_and_shares_order_survival():
    counts = histogram(np.repeat([1, 2, 3, 50], [400, 200, 100, 20]))
    last = [survival(counts, 8, s, kept=1 - s)[-1] for s in (0.0, 0.1, 0.5, 0.9, 1.0)]
    assert last[0] == 1.0
    assert (np.diff(last) < 0).all()
    share = largest_share(counts, 8, 0.5, excess=0.0)
    assert survival(counts, 8, share, kept=1 - share)[-1] == pytest.approx(0.5, abs=0.01)
    half = generations_to_half(counts, 1.0, kept=0.0, excess=0.0)
    left = survival(counts, half, 1.0, kept=0.0)
    assert left[half] < 0.5 <= left[half - 1]
    assert generations_to_half(counts, 0.1, kept=0.9, excess=0.0) == 0
    assert extinct(400, 1.0)[-1] > 0.99


def test_each_generation_repeats_itself_in_its_own_way():
    counts = histogram(np.repeat([1, 2, 3, 50], [400, 200, 100, 20]))
    own = np.array([0.1, 0.6, 2.0])
    seen = survival(counts, 3, 0.8, kept=0.2, excess=own)
    assert np.allclose(fitted_excess(counts, 0.8, 0.2, seen[1:]), own, atol=1e-3)
    alike = survival(counts, 6, 0.9, kept=0.1, excess=np.full(6, 0.4))
    assert np.allclose(alike, survival(counts, 6, 0.9, kept=0.1, excess=0.4))
    longer = survival(counts, 5, 0.9, kept=0.1, excess=own)
    assert np.allclose(longer, survival(counts, 5, 0.9, kept=0.1, excess=np.append(own, [2, 2])))


def test_models_draw_what_they_saw_and_score_what_they_did_not():
    tokens = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2] * 40)
    model = learnt(tokens, 6, order=3)
    made = model.drawn(500, np.random.default_rng(0))
    assert set(made) <= {0, 1, 2, 3}
    odd = np.array([3, 2, 1, 5, 4] * 20)
    assert model.surprise(tokens).mean() < model.surprise(odd).mean()
    every = np.array([model.surprise(np.array([0, 1, w]))[2] for w in range(6)])
    assert (2.0**-every).sum() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("parameters", "verdict", "risk"),
    [
        ({"share": 0.05}, "clean", "ok"),
        ({"plan": "accumulate"}, "clean", "ok"),
        pytest.param({"keep_rows": 290}, "clean", "ok", marks=pytest.mark.power),
        ({"keep_rows": 1}, "suspect", "collapse_risk"),
        ({}, "not_evaluated", "not_identifiable"),
    ],
)
def test_verdicts_follow_the_plan(parameters, verdict, risk):
    found = judged(data_of(corpus()), sample=0.1, repeats=2, generations=8, **parameters)
    assert (found.verdict, found.details["risk"]) == (verdict, risk)


def test_an_estimate_of_an_earlier_step_is_the_share():
    before = Finding(
        "synthetic.prevalence", "suspect", Estimate(0.9, 0.8, 1.0, n=100, method="pacc"), ""
    )
    found = judged(data_of(corpus()), [before], sample=0.1, repeats=2, generations=6)
    assert found.details["share_from"] == "upper bound of synthetic.prevalence"
    assert found.details["forecast"]["share"] == 1.0
    told = pl.DataFrame({"t": corpus()}).with_columns(synthetic=pl.lit(value=False))
    declared = judged(Dataset.of(told, Roles.of(text="t")), sample=0.1, repeats=2, generations=2)
    assert (declared.verdict, declared.details["forecast"]["share"]) == ("clean", 0.0)


REGIMES = [*(Plan("replace", p) for p in (1.0, 0.9, 0.5, 0.1)), Plan("accumulate")]


@pytest.mark.parametrize("model", ["mixture", "copula"])
def test_tables_lose_the_likelihood_of_far_rows(model):
    rng = np.random.default_rng(3)
    x = rng.standard_t(4, size=(160, 6)) @ rng.normal(size=(6, 6))
    table = Dataset.of(pl.DataFrame(x, schema=list("abcdef")))
    every = judged(table, share=1.0, repeats=2, generations=6, model=model)
    assert every.verdict == "suspect"
    assert every.details["model"] == model
    for parameters in ({"share": 0.1}, {"plan": "accumulate"}):
        found = judged(table, repeats=2, generations=2, model=model, **parameters)
        assert found.verdict == "clean"


@pytest.mark.power
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model", ["mixture", "copula"])
@pytest.mark.parametrize("load", [load_breast_cancer, load_diabetes, load_digits, load_wine])
def test_regimes_of_tables_are_ranked_and_told(monkeypatch, load, model):
    """Half of the rows foretell what ten generations do to the other half, over 24 seeds."""
    values = load().data.astype(float)
    values = values[np.random.default_rng(0).permutation(len(values))][:1_000]
    values = values[:, values.std(0) > 0]
    half = values.shape[0] // 2
    table = Dataset.of(pl.DataFrame(values[:half], schema=[f"x{i}" for i in range(len(values.T))]))
    verdicts, every = {}, collapse.TABLE_SCENARIOS
    for plan in (REGIMES[0], *REGIMES[3:]):  # what every call would foretell anew is asked once
        monkeypatch.setattr(collapse, "TABLE_SCENARIOS", every if plan == REGIMES[-1] else ())
        share = {"share": plan.share} if plan.name == "replace" else {}
        found = judged(table, plan=plan.name, generations=10, repeats=24, model=model, **share)
        verdicts[str(plan)] = found.verdict
    told = {s["plan"]: s["cross_entropy_change"][-1] for s in found.details["scenarios"]}
    lost = [told[str(plan)] for plan in REGIMES]
    truth = []
    for plan in REGIMES:
        seeds = [np.random.default_rng(90 + s) for s in range(24)]
        runs = [table_course(values[half:], plan, 10, rng, model=model)[-1] for rng in seeds]
        truth.append(np.median(runs))
    assert spearman(lost, truth) >= 0.9 - 1e-9, (lost, truth)  # one pair of neighbours
    assert list(verdicts.values()) == ["suspect", "clean", "clean"], (verdicts, lost)


@pytest.mark.parametrize("n", [2, 5, 6, 9, 40])
def test_a_median_is_covered_at_the_level_that_it_tells(n):
    rng = np.random.default_rng(n)
    truth = 2 ** (1 / 0.8) - 1  # of a law that has no mean
    found = [median(rng.pareto(0.8, n)) for _ in range(2_000)]
    level = found[0].level
    assert level == pytest.approx(min(0.95, 1 - 2.0 ** (1 - n)))
    covered = np.mean([f.low <= truth <= f.high for f in found])
    assert covered >= level - 3 * (level * (1 - level) / 2_000) ** 0.5


def test_a_median_of_many_lies_where_the_binomial_puts_it():
    made = median(np.arange(2_001.0))
    below = binom.ppf(0.025, 2_001, 0.5) - 1
    assert (made.low, made.value, made.high) == (below, 1_000, 2_000 - below)


def test_a_mixture_makes_rows_like_those_it_learnt_from():
    rng = np.random.default_rng(7)
    rows = np.concatenate([rng.normal(-4, 1, (300, 2)), rng.normal(4, [0.5, 2.0], (300, 2))])
    for learner in (mixture, copula):
        model = learner(rows, rng)
        made = model.drawn(4_000, rng)
        assert np.allclose(made.mean(0), rows.mean(0), atol=0.4)
        assert np.allclose(made.var(0), rows.var(0), rtol=0.15)
        axis = np.linspace(-14, 14, 281)
        grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        mass = np.exp(model.log_density(grid)).sum() * (axis[1] - axis[0]) ** 2
        assert mass == pytest.approx(1.0, abs=0.03)
    far = np.array([[-4.0, 4.0]])
    assert mixture(rows, rng).log_density(far)[0] < -8  # a copula cannot know of groups


def said(kind, verdict, value, low, high):
    return Finding(f"synthetic.{kind}", verdict, Estimate(value, low, high, n=99, method="x"), "")


@pytest.mark.parametrize(
    ("limits", "passes", "closes"),
    [
        (
            expect_synthetic_share_upper_bound_below(0.2),
            [said("prevalence", "clean", 0.1, 0.05, 0.15)],
            [
                [said("prevalence", "clean", 0.1, 0.05, 0.3)],  # the bound counts, not the value
                [said("prevalence", "not_evaluated", 0.5, 0.0, 1.0)],
                [],
            ],
        ),
        (
            expect_tail_survival_above(0.6),
            [said("collapse", "clean", 0.8, 0.7, 0.9)],
            [
                [said("collapse", "clean", 0.8, 0.5, 0.9)],
                [said("collapse", "not_evaluated", 0.9, 0.8, 1.0)],
                [],
            ],
        ),
        (
            expect_no_undeclared_generator(),
            [said("declared", "clean", 0.0, 0.0, 0.0), said("score", "clean", 0.01, 0.0, 0.03)],
            [
                [said("declared", "clean", 0.0, 0.0, 0.0), said("score", "suspect", 0.2, 0.1, 0.3)],
                [said("declared", "fail", 0.3, 0.3, 0.3), said("score", "clean", 0.01, 0.0, 0.03)],
                [said("declared", "clean", 0.0, 0.0, 0.0)],
                [said("score", "clean", 0.01, 0.0, 0.03)],
            ],
        ),
    ],
    ids=["share", "tail", "generator"],
)
def test_expectations_of_a_release_open_and_close_the_gate(limits, passes, closes):
    Gate(limits).run(empty(), Context(0, Path(), findings=passes))
    for findings in closes:
        with pytest.raises(GateClosed):
            Gate(limits).run(empty(), Context(0, Path(), findings=findings))


@pytest.mark.parametrize(
    "rows", [[""] * 90, ["🙂"] * 90, ["\x00"] * 90, ["a few words"], [None] * 80]
)
def test_bad_rows_earn_no_verdict(rows):
    data = Dataset.of(pl.DataFrame({"t": rows}, schema={"t": pl.String}), Roles.of(text="t"))
    assert judged(data, share=1.0).verdict == "not_evaluated"


def test_one_giant_row_is_simulated_in_part():
    rng = np.random.default_rng(4)
    giant = " ".join(spelt(i) for i in rng.zipf(1.4, 60_000) % 30_000)
    found = judged(data_of([giant]), share=1.0, repeats=2, generations=2)
    assert found.details["sample_tokens"] <= 12_000


def test_parameters_are_checked():
    assert judged(empty(), share=1.0).verdict == "not_evaluated"
    wrong = CollapseForecast(
        plan="grow", keep_rows=-1, generations=0, survival_at_least=2, sample=0, repeats=1
    )
    assert len(wrong.check()) == 6
