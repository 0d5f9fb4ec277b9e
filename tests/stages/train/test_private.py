# SPDX-License-Identifier: Apache-2.0
"""Private training: what is clipped, what is noised, what is spent, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant
from torch import nn

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import Roles
from datapipe.errors import BudgetSpent, DeclarationError
from datapipe.features.encoding import Encoded
from datapipe.features.networks import build, convolutional, perceptron
from datapipe.stages.train import _noisy_steps
from datapipe.stages.train._accounting import loosely_spent, noise_for, quiet, spent, steps_within
from datapipe.stages.train._noisy_steps import PrivateSteps, unmixed
from datapipe.stages.train._rows import Rows
from datapipe.stages.train.private import TrainPrivately


def test_digits_are_learned_within_the_budget(digits, context) -> None:
    made = TrainPrivately(epsilon=3.0, delta=1e-5).run(digits, context)
    finding, event, facts = made.findings[0], made.privacy[0], made.artifacts[0].facts
    assert finding.measure.low > 0.8
    assert 2.97 < event.epsilon <= 3.0
    assert (event.sample_rate, event.steps, event.unit) == (0.1, 150, "row")
    curve = facts["epsilon_by_step"]
    assert curve[-1] == [150, event.epsilon]
    assert [e for _, e in curve] == sorted(e for _, e in curve)
    assert "keep it secret" in finding.says


def rows_of(n: int, shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> Rows:
    rng = np.random.default_rng(seed)
    x = (scale * rng.normal(size=(n, *shape))).astype(np.float32)
    y = rng.integers(0, 3, n)
    weights = rng.uniform(0.5, 2.0, n).astype(np.float32)
    return Rows(Encoded(shape, x), y, weights, pl.Series(range(n), dtype=pl.UInt64))


def one_by_one(module: nn.Module, rows: Rows, sample, clip: float, divisor: int) -> list:
    """The clipped, summed and divided gradient, a row at a time."""
    total = [torch.zeros_like(p) for p in module.parameters()]
    for i in sample:
        module.zero_grad()
        said = module(torch.from_numpy(rows.x.dense[i : i + 1]))
        loss = nn.functional.cross_entropy(said, torch.tensor([rows.y[i]]))
        (float(rows.weights[i]) * loss).backward()
        slopes = [p.grad for p in module.parameters()]
        norm = torch.sqrt(sum((g**2).sum() for g in slopes))
        share = min(1.0, clip / (float(norm) + 1e-6)) / divisor
        total = [t + share * g for t, g in zip(total, slopes, strict=True)]
    return total


def moved(module: nn.Module, rows: Rows, sample, *, sigma=0.0, clip=0.3, divisor=32, seed=0):
    """The gradient that one step took, read off a step of plain SGD with step size 1."""
    before = [p.detach().clone() for p in module.parameters()]
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    steps = PrivateSteps(
        module, optimiser, sigma=sigma, clip=clip, divisor=divisor, generator=generator
    )
    steps.take(rows, np.asarray(sample, np.int64))
    steps.close()
    return [b - p.detach() for b, p in zip(before, module.parameters(), strict=True)]


NETWORKS = {
    "convolutional": (
        convolutional((1, 6, 6), 3, channels=(4, 4), hidden=8, activation="tanh"),
        (1, 6, 6),
    ),
    "perceptron": (perceptron((5,), 3, hidden=(7,)), (5,)),
    "linear": (perceptron((5,), 3, hidden=()), (5,)),
}


@pytest.mark.parametrize("chunk", [256, 7])
@pytest.mark.parametrize("name", NETWORKS)
def test_without_noise_a_step_is_the_clipped_sum_row_by_row(name, chunk, monkeypatch) -> None:
    monkeypatch.setattr(_noisy_steps, "CHUNK_ROWS", chunk)
    spec, shape = NETWORKS[name]
    torch.manual_seed(1)
    module, rows = build(spec), rows_of(40, shape)
    sample = [0, 3, 5, *range(10, 31)]
    expected = one_by_one(copy.deepcopy(module), rows, sample, 0.3, 32)
    for got, want in zip(moved(module, rows, sample), expected, strict=True):
        assert torch.allclose(got, want, atol=1e-6)


def test_one_more_row_changes_neither_the_divisor_nor_the_noise() -> None:
    """The rows' own sums may differ by clip / divisor; what is added to them may not."""
    torch.manual_seed(0)
    module = build(perceptron((5,), 3, hidden=()))
    rows, more = rows_of(40, (5,)), rows_of(41, (5,))
    same = np.arange(40)
    quiet = moved(copy.deepcopy(module), rows, same)
    noise = [
        a - b
        for a, b in zip(moved(copy.deepcopy(module), rows, same, sigma=2.0), quiet, strict=True)
    ]
    assert any(float(n.abs().max()) > 0 for n in noise)
    for n_rows, held in ((40, rows), (41, more)):
        with_noise = moved(copy.deepcopy(module), held, np.arange(n_rows), sigma=2.0)
        without = moved(copy.deepcopy(module), held, np.arange(n_rows))
        for a, b, n in zip(with_noise, without, noise, strict=True):
            assert torch.allclose(a - b, n, atol=1e-6)
    twin = replace(rows, y=rows.y.copy())
    less, whole = moved(copy.deepcopy(module), twin, same[:-1]), moved(module, twin, same)
    change = torch.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(whole, less, strict=True)))
    assert float(change) <= 0.3 / 32 * 1.0001


def test_noise_has_the_declared_spread() -> None:
    module = build(perceptron((200,), 3, hidden=()))
    step = moved(module, rows_of(10, (200,)), [], sigma=1.7, clip=0.3, divisor=32)
    drawn = torch.cat([g.flatten() for g in step])
    assert float(drawn.std()) == pytest.approx(1.7 * 0.3 / 32, rel=0.1)


def test_an_empty_sample_is_noise_alone() -> None:
    module = build(perceptron((5,), 3))
    assert all(
        float(g.abs().max()) == 0 for g in moved(copy.deepcopy(module), rows_of(9, (5,)), [])
    )
    assert all(torch.isfinite(g).all() for g in moved(module, rows_of(9, (5,)), [], sigma=1.0))


def test_a_row_whose_gradient_is_no_number_counts_as_none() -> None:
    torch.manual_seed(0)
    module, rows = build(perceptron((5,), 3)), rows_of(12, (5,))
    rows.x.dense[4] = np.inf
    rest = [i for i in range(12) if i != 4]
    with_it, without = (moved(copy.deepcopy(module), rows, s) for s in (range(12), rest))
    torch.testing.assert_close(
        with_it, without, rtol=1e-6, atol=1e-8
    )  # two threads may add in another order


@settings(max_examples=3)
@given(
    epsilon=st.floats(0.3, 8.0),
    delta=st.sampled_from([1e-6, 1e-5, 1e-4]),
    sample_rate=st.sampled_from([0.01, 0.05, 0.1, 0.3, 1.0]),
    steps=st.integers(5, 200),
)
def test_no_schedule_overspends_and_little_is_left(epsilon, delta, sample_rate, steps) -> None:
    sigma = noise_for(epsilon, delta, sample_rate, steps)
    assert 0.97 * epsilon < spent(sigma, sample_rate, steps, delta) <= epsilon


@settings(max_examples=4)
@given(
    epsilon=st.floats(0.5, 8.0), sigma=st.floats(0.6, 4.0), sample_rate=st.sampled_from([0.02, 0.1])
)
def test_with_given_noise_training_stops_at_the_budget(epsilon, sigma, sample_rate) -> None:
    if spent(sigma, sample_rate, 1, 1e-5) > epsilon:
        with pytest.raises(BudgetSpent) as refused:
            steps_within(epsilon, 1e-5, sigma, sample_rate, 60)
        assert refused.value.epsilon > epsilon
        return
    steps = steps_within(epsilon, 1e-5, sigma, sample_rate, 60)
    assert spent(sigma, sample_rate, steps, 1e-5) <= epsilon
    assert steps == 60 or spent(sigma, sample_rate, steps + 1, 1e-5) > epsilon


def test_epsilon_is_what_opacus_says_step_by_step() -> None:
    theirs = PRVAccountant()
    for _ in range(150):
        theirs.step(noise_multiplier=1.95, sample_rate=0.1)
    assert spent(1.95, 0.1, 150, 1e-5) == pytest.approx(theirs.get_epsilon(1e-5), rel=0.01)


@pytest.mark.parametrize(
    ("sigma", "rate", "steps"), [(1.0974, 0.1, 20), (2.1, 0.064, 300), (0.8, 0.01, 1000)]
)
def test_divergences_that_are_kept_change_no_digit(sigma, rate, steps) -> None:
    theirs, loose = PRVAccountant(), RDPAccountant()
    theirs.history = loose.history = [(sigma, rate, steps)]
    with quiet():
        expected = min(loose.get_epsilon(1e-5), theirs.get_epsilon(1e-5, eps_error=0.01))
        told = loose.get_epsilon(1e-5)
    assert loosely_spent(sigma, rate, steps, 1e-5) == told
    if told >= 2:  # where we ask for the precision that was asked of Opacus here
        assert spent(sigma, rate, steps, 1e-5) == expected


def test_what_was_spent_before_counts(digits, context) -> None:
    tired = replace(context, privacy_spent=2.5)
    with pytest.raises(BudgetSpent, match=r"2\.5 was spent on this data; 3 more") as refused:
        TrainPrivately().run(digits, tired)
    assert (refused.value.epsilon, refused.value.exit_code) == (5.5, 5)
    assert not list(context.scratch.iterdir())
    short = TrainPrivately(budget=6.0, epochs=0.2)
    assert short.run(digits, tired).privacy[0].epsilon <= 3.0
    with pytest.raises(BudgetSpent):
        TrainPrivately(epsilon=3.5001, budget=6.0).run(digits, tired)


def test_the_store_keeps_the_account(table, tmp_path) -> None:
    """The same run again is reused and free; another seed is another release, and too much."""
    pipeline = Pipeline("private", [TrainPrivately(epochs=0.3, noise_multiplier=1.5)])
    store = tmp_path / "store"
    first = pipeline.run(table, seed=1, store=store)
    assert pipeline.run(table, seed=1, store=store).steps[-1].reused
    with pytest.raises(BudgetSpent):
        pipeline.run(table, seed=2, store=store)
    spent_by_now = first.sql("select sum(epsilon) as e from privacy_events")["e"][0]
    assert 0 < spent_by_now <= 3.0


def test_given_noise_ends_early_and_says_so(digits, context) -> None:
    made = TrainPrivately(noise_multiplier=1.0, epochs=15).run(digits, context)
    facts = made.artifacts[0].facts
    assert facts["steps"] < facts["steps_planned"] == 150
    assert made.privacy[0].epsilon <= 3.0


def test_seeded_noise_repeats_and_fresh_noise_does_not(table, tmp_path) -> None:
    def weights(seed: int, noise: str, place: str) -> bytes:
        scratch = tmp_path / place
        scratch.mkdir()
        stage = TrainPrivately(epochs=0.3, noise_multiplier=2.0, noise=noise)
        return stage.run(table, Context(seed, scratch)).artifacts[0].path.read_bytes()

    assert weights(1, "seeded", "a") == weights(1, "seeded", "b") != weights(2, "seeded", "c")
    assert weights(1, "fresh", "d") != weights(1, "fresh", "e")
    assert TrainPrivately().cacheable()
    assert not TrainPrivately(noise="fresh").cacheable()


def test_nothing_is_fitted_on_the_rows(table, context) -> None:
    """The encoding of a table is the same whatever the rows hold."""
    stage = TrainPrivately(epochs=0.2, noise_multiplier=2.0, ranges=(("b", 0.0, 2000.0),))
    other = Dataset.of(
        table.frame().with_columns(a=pl.col("a") * 900 + 5, c=pl.lit("unheard of")), table.roles
    )
    fitted = [stage.run(d, context).artifacts[0].facts["encoding"] for d in (table, other)]
    assert fitted[0] == fitted[1]
    assert [r["rule"] for r in fitted[0]["settings"]["columns"]] == ["squashed", "ranged", "hashed"]


def test_subjects_with_many_rows_are_told_of(table, context) -> None:
    finding = TrainPrivately(epochs=0.2).run(table, context).findings[0]
    held = TrainPrivately(epochs=0.2).run(table, context).artifacts[0].row_ids
    most = table.frame(["who"])["who"].gather(held).value_counts()["count"].max()
    assert f"A subject has up to {most} rows" in finding.says


def test_batch_normalisation_is_refused(digits, context, own_module) -> None:
    with pytest.raises(DeclarationError, match="cannot be trained privately"):
        TrainPrivately(model=own_module.normed).run(digits, context)
    frozen = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    frozen[0].weight.requires_grad_(False)
    with pytest.raises(DeclarationError, match="no gradient"):
        unmixed(frozen)


def test_own_network_is_trained_privately(digits, context, own_module) -> None:
    made = TrainPrivately(model=own_module.gelu).run(digits, context)
    assert made.findings[0].measure.value > 0.5


def test_delta_must_be_small_for_the_rows(context) -> None:
    frame = pl.DataFrame({"a": np.arange(50.0), "y": [0, 1] * 25})
    with pytest.raises(DeclarationError, match="no protection for 40 rows"):
        TrainPrivately(delta=0.03).run(Dataset.of(frame, Roles.of(label="y")), context)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"epsilon": -1.0}, "epsilon=-1.0 must be above 0"),
        ({"epsilon": float("nan")}, "epsilon=nan must be a number"),
        ({"delta": 0.0}, "delta=0.0 must lie in (0, 1)"),
        ({"clip": 0.0}, "clip=0.0 must be above 0"),
        ({"sample_rate": 0.0}, "sample_rate=0.0 must lie in (0, 1]"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"budget": 0.0}, "budget=0.0 must be above 0"),
        ({"noise_multiplier": 0.0}, "noise_multiplier=0.0 must be above 0"),
        ({"noise": "none"}, "noise='none' is none of seeded, fresh"),
        ({"ranges": (("b", 1.0, 1.0),)}, "low < high"),
    ],
)
def test_wrong_parameters_are_told_in_the_plan(wrong, says) -> None:
    assert any(says in problem for problem in TrainPrivately(**wrong).check())
    assert not TrainPrivately().check()


def test_the_schedule_depends_on_parameters_only(digits, tmp_path) -> None:
    """Half the rows: the same steps, noise, clip and divisor, to the last digit."""
    told = []
    for name, n in (("whole", 1797), ("half", 900)):
        scratch = tmp_path / name
        scratch.mkdir()
        data = Dataset.of(digits.frame()[:n], digits.roles)
        facts = TrainPrivately(epochs=1).run(data, Context(1, scratch)).artifacts[0].facts
        told.append([facts[k] for k in ("steps", "noise_multiplier", "divisor", "clip")])
    assert told[0] == told[1]
