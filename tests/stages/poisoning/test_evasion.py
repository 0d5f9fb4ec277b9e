# SPDX-License-Identifier: Apache-2.0
"""Attacks keep to what an attacker may do, and reach what is known; the filter keeps its level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import Roles
from datapipe.execute.erase import erase
from datapipe.features.encoding import fit_encoding, standardised
from datapipe.features.held_out import held_out_rows
from datapipe.features.networks import load_model
from datapipe.lineage.store import Lineage
from datapipe.measure.input_filter import InputFilter, Views
from datapipe.stages.poisoning._attacks import (
    ATTACKS,
    Asked,
    Target,
    _pictures,
    attacked,
    margin,
    one_answer,
    target_of,
)
from datapipe.stages.poisoning.evasion import EvasionAttacks, _views
from datapipe.stages.train.plain import TrainPlain
from datapipe.testing import check_stage
from datapipe.testing.worlds import digits_world

SMALL = {"queries": 40, "steps": 8, "rows": 100}


def _after_training(data, folder, seed=3, **given):
    made = TrainPlain(**given).run(data, Context(seed, folder))
    return Context(seed, folder, artifacts={a.name: a for a in made.artifacts})


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    data = digits_world(3, damaged=False).dataset()
    return data, _after_training(data, tmp_path_factory.mktemp("digits"), epochs=3)


def _linear(norm, d=6, n=200, free=None):
    """A linear network of two classes, whose weakest point is known exactly."""
    rng = np.random.default_rng(0)
    module = nn.Linear(d, 2)
    with torch.no_grad():  # drawn here: a network that hardly tells its classes cannot be broken
        module.weight.copy_(torch.from_numpy(rng.uniform(-1, 1, (2, d)).astype(np.float32)))
        module.bias.copy_(-module.weight.sum(1) / 2)
    start = torch.from_numpy(rng.uniform(size=(n, d)).astype(np.float32))
    may = torch.ones(d) if free is None else torch.tensor(free)
    target = Target(module, lambda rows: rows, torch.zeros(d), torch.ones(d), may, norm)
    with torch.no_grad():
        y = module(start).argmax(1).numpy()
        weight = (module.weight[0] - module.weight[1]).numpy()
        lead = np.abs((module(start)[:, 0] - module(start)[:, 1]).numpy())
    return target, start, y, weight * np.where(y == 0, 1.0, -1.0)[:, None], lead


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.3])
def test_of_a_linear_model_exactly_the_rows_fall_that_can(epsilon):
    target, start, y, weight, lead = _linear("linf")
    room = np.where(weight > 0, start.numpy(), 1.0 - start.numpy())
    can = lead - (np.abs(weight) * np.minimum(epsilon, room)).sum(1) < 0
    told = attacked(target, start, y, epsilon, Asked(tuple(ATTACKS), np.random.default_rng(1)))
    for name in ("fgsm", "pgd", "query"):
        assert not (~told.stands[name] & ~can).any(), "an attack did more than it may"
    assert (told.stands["pgd"] == ~can).mean() > 0.99
    assert (told.stands["fgsm"] == ~can).mean() > 0.99
    assert (told.stands["query"] == ~can).mean() > 0.9


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_value_moves_further_than_epsilon_nor_out_of_range_nor_where_it_may_not(norm):
    target, start, y, _, _ = _linear(norm, free=[1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    told = attacked(target, start, y, 0.2, Asked(tuple(ATTACKS), np.random.default_rng(1)))
    for moved in told.moved.values():
        change = (moved - start).numpy()
        size = np.abs(change).max(1) if norm == "linf" else np.linalg.norm(change, axis=1)
        assert size.max() <= 0.2 + 1e-5
        assert not change[:, 2].any()
        assert 0 <= moved.min() <= moved.max() <= 1
    assert not told.all_stand.all()


def test_questions_end_at_the_worst_point_that_they_asked_for():
    target, start, y, _, _ = _linear("linf")
    asked = []
    module = target.module

    class Heard(nn.Module):
        def forward(self, rows):
            made = module(rows)
            asked.append(margin(made, torch.from_numpy(y)))
            return made

    heard = replace(target, module=Heard(), queries=60)
    made = ATTACKS["query"](heard, start, torch.from_numpy(y), 0.05, np.random.default_rng(1))
    told = torch.stack(asked)
    assert len(told) == 61
    assert (told[-1] > told.min(0).values).any()  # the last one asked for is not the worst
    with torch.no_grad():
        lead = margin(module(made), torch.from_numpy(y))
    assert torch.allclose(lead, told.min(0).values, atol=1e-6)


def test_slopes_pass_through_the_encoding_of_pictures():
    rng = np.random.default_rng(0)
    for shape in ((1, 4, 4), (3, 2, 2), (5,)):
        flat = rng.uniform(size=(7, int(np.prod(shape)))).astype(np.float32)
        ours = _pictures(shape)(torch.from_numpy(flat)).numpy()
        np.testing.assert_allclose(ours, standardised(flat, shape), atol=1e-5)
    one_tone = torch.full((1, 16), 0.5, requires_grad=True)
    _pictures((1, 4, 4))(one_tone).sum().backward()
    assert torch.isfinite(one_tone.grad).all()


def test_more_room_breaks_more_and_the_verdict_reads_the_bound(digits):
    data, context = digits
    made = EvasionAttacks(epsilons=(0.01, 0.1, 0.3), **SMALL).run(data, context).findings[0]
    told = [e["robust_accuracy"]["value"] for e in made.details["epsilons"]]
    assert told == sorted(told, reverse=True)
    assert made.details["accuracy"]["value"] > 0.8
    assert told[0] > 0.7
    assert told[-1] < 0.2
    assert made.verdict == "fail"
    assert made.measure.method == "wilson"
    assert len(made.rows) == 100
    small = EvasionAttacks(epsilons=(0.005,), attacks=("fgsm",), **SMALL).run(data, context)
    assert small.findings[0].verdict == "clean"
    close = EvasionAttacks(
        epsilons=(0.005,), attacks=("fgsm",), floor=told[0], **{**SMALL, "rows": 40}
    ).run(data, context)
    assert close.findings[0].verdict == "not_evaluated"


def test_the_filter_that_was_written_says_the_same_again(digits):
    data, context = digits
    made = EvasionAttacks(epsilons=(0.3,), attacks=("pgd",), **SMALL).run(data, context)
    screen, (file,) = made.findings[1], made.artifacts
    model = context.model()
    module, encoding = load_model(model.path, model.facts)
    held = held_out_rows(model, encoding, data, context)
    again = EvasionAttacks.filter_of(file).p_values(_views(module, held.x))
    told = dict(zip(held.row_ids, again, strict=True))
    rows = screen.rows
    assert [told[i] for i in rows["row_id"]] == rows["p_value"].to_list()
    assert screen.measure.value == (rows["p_value"] <= 0.05).mean()
    assert screen.details["refused"]["0.3"]["pgd"]["n"] > 50


def test_honest_inputs_are_refused_as_often_as_was_asked():
    rng = np.random.default_rng(0)
    refused = []
    for _ in range(200):
        known, apart, asked = (
            Views(*rng.normal(size=(2, n, 3)).astype(np.float32)) for n in (60, 79, 20)
        )
        made = InputFilter.fitted(known, apart)
        refused.append((made.p_values(asked) <= 0.1).mean())
    assert abs(np.mean(refused) - 0.1) < 4 * np.std(refused) / np.sqrt(len(refused))


def test_columns_of_categories_stay_and_texts_get_the_filter_only(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    frame = pl.DataFrame({"a": rng.normal(size=400) + y, "c": rng.choice(["u", "v"], 400), "y": y})
    data = Dataset.of(frame, Roles.of(label="y"))
    target, start = target_of(nn.Identity(), fit_encoding(data), data.frame())
    assert target.free.tolist() == [1.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(
        target.inputs(start).numpy(),
        fit_encoding(data).encode(frame).take(np.arange(400)),
        atol=1e-5,
    )
    words = np.array([["rain", "wind", "snow"], ["goal", "team", "ball"]])
    texts = [" ".join(rng.choice(words[k], 8)) for k in y]
    data = Dataset.of(pl.DataFrame({"t": texts, "y": y}), Roles.of(text="t", label="y"))
    made = EvasionAttacks().run(data, _after_training(data, tmp_path, epochs=2))
    assert [f.verdict for f in made.findings] == ["not_evaluated", "clean"]


def test_without_held_out_rows_nothing_is_evaluated(tmp_path):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"a": rng.normal(size=60), "y": rng.integers(0, 2, 60)})
    data = Dataset.of(frame, Roles.of(label="y"))
    made = EvasionAttacks().run(data, _after_training(data, tmp_path, epochs=1, holdout=0.0))
    assert [f.verdict for f in made.findings] == ["not_evaluated"] * 2
    assert not made.artifacts


def test_bad_parameters_are_told():
    wrong = EvasionAttacks(norm="l1", attacks=("pdg",), floor=2.0, steps=0, queries=0, rows=0)
    assert len(wrong.check()) == 6
    assert len(EvasionAttacks(epsilons=(0.3, 0.1), attacks=()).check()) == 2
    assert EvasionAttacks(epsilons=(3.0,), norm="l2").check() == []
    assert EvasionAttacks(epsilons=(3.0,)).check()


def test_it_keeps_the_contract():
    assert not check_stage(EvasionAttacks()).failed


def test_a_person_is_erased_from_the_filter(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    people = [f"person {i % 50}" for i in range(400)]
    frame = pl.DataFrame({"a": rng.normal(size=400) + 2 * y, "y": y, "p": people})
    stages = [TrainPlain(epochs=1), EvasionAttacks(attacks=("fgsm",))]
    roles = Roles.of(label="y", subject="p")
    store = tmp_path / "s"
    run = Pipeline("attacked", stages).run(frame, seed=1, store=store, roles=roles)
    before = pl.read_parquet(run.artifacts["plain.filter"].path)
    assert before["before"].null_count() == 0
    done = erase(Lineage(store), "person 7", carry_out=True)
    (after,) = (
        table
        for path in (store / "objects").iterdir()
        if path.suffix == ".parquet" and "behind" in (table := pl.read_parquet(path)).columns
    )
    mine = pl.col("row_id").is_in(done.reach.row_ids.implode())
    assert before.filter(mine).height
    assert after.filter(mine)["before"].null_count() == after.filter(mine).height
    assert after.filter(~mine)["before"].null_count() == 0


class _Odd(nn.Module):
    """A network whose answers, or whose slopes, are no numbers."""

    def __init__(self, *, slopes):
        super().__init__()
        self.slopes = slopes

    def forward(self, rows):
        told = torch.stack([rows.sum(1), -rows.sum(1)], 1)
        if not self.slopes:
            return told * float("nan")
        return told + (0.0 * rows.sum(1, keepdim=True)).sqrt()  # 0, and a slope that is no number


@pytest.mark.parametrize("slopes", [False, True])
def test_what_is_no_number_is_no_answer_and_breaks_nothing(slopes):
    start = torch.from_numpy(np.random.default_rng(0).uniform(0.2, 0.8, (40, 5)).astype(np.float32))
    one = torch.ones(5)
    target = Target(_Odd(slopes=slopes), lambda r: r, 0 * one, one, one, steps=4, queries=10)
    told = attacked(
        target, start, np.zeros(40, int), 0.03, Asked(tuple(ATTACKS), np.random.default_rng(1))
    )
    assert {int(v.sum()) for v in told.stands.values()} == {40 if slopes else 0}
    assert all(m.isfinite().all() for m in told.moved.values())


def test_a_model_of_one_answer_is_not_praised_for_standing(digits, monkeypatch):
    data, context = digits
    monkeypatch.setattr(
        nn.Linear, "forward", lambda self, x: 0 * x[..., :1] + 0 * self.weight[:, 0]
    )
    robust = EvasionAttacks(**SMALL).run(data, context).findings[0]
    assert robust.verdict == "not_evaluated"
    assert "same answer" in robust.says
    start, one = torch.rand(9, 2), torch.ones(2)
    assert not one_answer(Target(_Odd(slopes=True), lambda r: r - 0.5, 0 * one, one, one), start)
