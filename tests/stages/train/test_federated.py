# SPDX-License-Identifier: Apache-2.0
"""Federated training: all clients at once equal one after the other; bad clients and records."""

from __future__ import annotations

import copy

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.errors import DataError, DeclarationError, SchemaMismatch
from datapipe.features.encoding import Encoded
from datapipe.features.networks import build, convolutional, perceptron
from datapipe.stages.train import _rounds
from datapipe.stages.train._clients import by_dirichlet, local_plan
from datapipe.stages.train._rounds import aggregated, bounded, local_updates
from datapipe.stages.train._rows import Rows
from datapipe.stages.train.federated import TrainFederated


@pytest.fixture(scope="module")
def rows() -> Rows:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(150, 1, 6, 6)).astype(np.float32)
    weights = rng.uniform(0.5, 2, 150).astype(np.float32)
    ids = pl.Series(range(150), dtype=pl.UInt64)
    return Rows(Encoded((1, 6, 6), x), rng.integers(0, 3, 150), weights, ids)


def one_after_the_other(module: nn.Module, rows: Rows, plan, learning_rate: float) -> torch.Tensor:
    """A copy of the network for each client, trained by torch's own SGD on ragged batches."""
    moves = []
    start = torch.cat([p.detach().flatten() for p in module.parameters()])
    for steps in plan:
        local = copy.deepcopy(module)
        optimiser = torch.optim.SGD(local.parameters(), lr=learning_rate)
        for batch in steps:
            index = batch[batch >= 0]
            if not len(index):
                continue
            said = local(torch.from_numpy(rows.x.dense[index]))
            losses = nn.functional.cross_entropy(
                said, torch.from_numpy(rows.y[index]), reduction="none"
            )
            w = torch.from_numpy(rows.weights[index])
            optimiser.zero_grad()
            ((w * losses).sum() / w.sum()).backward()
            optimiser.step()
        moves.append(torch.cat([p.detach().flatten() for p in local.parameters()]) - start)
    return torch.stack(moves)


@pytest.mark.parametrize("held_at_once", [1 << 24, 5000])
@pytest.mark.parametrize(
    "spec",
    [
        perceptron((1, 6, 6), 3, hidden=(8,)),
        convolutional((1, 6, 6), 3, channels=(4, 4), hidden=8),
    ],
    ids=["perceptron", "convolutional"],
)
def test_all_clients_at_once_equal_one_after_the_other(spec, held_at_once, rows, monkeypatch):
    monkeypatch.setattr(_rounds, "NUMBERS_HELD", held_at_once)
    torch.manual_seed(0)
    module = build(spec)
    of_row = np.repeat([0, 1, 2, 3], [3, 20, 47, 80])  # ragged on purpose
    plan = local_plan(of_row, np.arange(4), 8, 2, np.random.default_rng(1))
    batched = local_updates(module, rows, plan, 0.1)
    assert torch.allclose(batched, one_after_the_other(module, rows, plan, 0.1), atol=1e-5)
    assert float(batched.norm(dim=1).min()) > 0


@given(
    st.integers(0, 1000),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 80),
)
def test_a_plan_shows_each_participant_its_rows_once_an_epoch(seed, clients, batch, epochs, n):
    rng = np.random.default_rng(seed)
    of_row = rng.integers(0, clients, n)
    chosen = np.flatnonzero(rng.random(clients) < 0.7)
    plan = local_plan(of_row, chosen, batch, epochs, rng)
    for k, client in enumerate(chosen):
        shown = plan[k][plan[k] >= 0]
        assert sorted(shown) == sorted(np.tile(np.flatnonzero(of_row == client), epochs))


def test_dirichlet_shares_out_every_row_and_small_alpha_is_uneven() -> None:
    y = np.repeat(np.arange(5), 200)
    unevenness = []
    for alpha in (0.1, 100.0):
        split = by_dirichlet(y, 8, alpha, np.random.default_rng(0))
        assert split.sizes.sum() == len(y)
        counts = np.stack([np.bincount(split.of_row[y == k], minlength=8) for k in range(5)])
        unevenness.append(counts.std())
    assert unevenness[0] > 5 * unevenness[1]


def test_digits_are_learned_by_uneven_clients(digits, context) -> None:
    made = TrainFederated(alpha=0.5).run(digits, context)
    assert made.findings[0].measure.low > 0.9
    assert [a.name for a in made.artifacts] == [
        "federated",
        "federated.heldout",
        "federated.participation",
    ]


def test_who_took_part_is_on_record(digits, context) -> None:
    stage = TrainFederated(clients=10, participation=0.3, rounds=5)
    made = stage.run(digits, context)
    record = pl.read_parquet(made.artifacts[2].path)
    assert record.group_by("round").len()["len"].to_list() == [3] * 5
    assert record["client"].n_unique() > 3
    sizes = record.group_by("client").agg(pl.col("rows").n_unique())["rows"]
    assert sizes.to_list() == [1] * len(sizes)
    by_round = made.artifacts[0].facts["by_round"]
    assert [r["participants"] for r in by_round] == [3] * 5
    assert sum(r["rows"] for r in by_round) == record["rows"].sum()


def test_columns_name_the_clients_and_are_no_features(table, tmp_path) -> None:
    frame = table.frame().with_columns(
        site=pl.Series(np.random.default_rng(0).choice(["n", "s", "w"], len(table)))
    )
    for name, roles, by in (
        ("role", Roles.of(label="y", group="site"), ""),
        ("by", Roles.of(label="y"), "site"),
    ):
        scratch = tmp_path / name
        scratch.mkdir()
        stage = TrainFederated(by=by, rounds=15)
        made = stage.run(Dataset.of(frame, roles), Context(1, scratch))
        record = pl.read_parquet(made.artifacts[2].path)
        assert sorted(set(record["name"])) == ["n", "s", "w"]
        columns = made.artifacts[0].facts["encoding"]["columns"]
        assert "site" not in columns
        assert made.findings[0].verdict == "clean"
    with pytest.raises(SchemaMismatch, match="'plce'"):
        TrainFederated(by="plce").run(Dataset.of(frame, roles), Context(1, scratch))
    alone = Dataset.of(frame.with_columns(site=pl.lit("n")), Roles.of(label="y", group="site"))
    with pytest.raises(DataError, match="make one client"):
        TrainFederated().run(alone, Context(1, scratch))


@given(st.integers(0, 500), st.integers(3, 15))
def test_robust_aggregates_stay_among_the_honest(seed, clients) -> None:
    generator = torch.Generator().manual_seed(seed)
    moves = torch.randn(clients, 20, generator=generator)
    bad = (clients - 1) // 3
    attacked = moves.clone()
    attacked[:bad] = 1e6
    sizes = torch.ones(clients)
    honest = moves[bad:]
    for how in ("median", "trimmed"):
        made = aggregated(attacked, sizes, how, 0.4)
        assert (made >= honest.min(dim=0).values - 1e-5).all()
        assert (made <= honest.max(dim=0).values + 1e-5).all()
    if bad:
        assert aggregated(attacked, sizes, "mean", 0.0).abs().max() > 1e4


def test_aggregates_are_what_their_names_say() -> None:
    moves = torch.tensor([[1.0], [2.0], [10.0], [100.0]])
    sizes = torch.tensor([1.0, 1.0, 1.0, 7.0])
    assert aggregated(moves, sizes, "mean", 0.0).item() == pytest.approx(71.3)
    assert aggregated(moves, sizes, "median", 0.0).item() == 6.0
    assert aggregated(moves, sizes, "trimmed", 0.25).item() == 6.0
    assert aggregated(moves[:3], sizes[:3], "median", 0.0).item() == 2.0


def test_clipping_bounds_the_norm_and_finds_what_is_no_number() -> None:
    moves = torch.tensor([[3.0, 4.0], [0.3, 0.4], [float("nan"), 1.0]])
    clipped, finite = bounded(moves, 1.0)
    assert clipped[0].norm().item() == pytest.approx(1.0)
    assert torch.equal(clipped[1], moves[1])
    assert finite.tolist() == [True, True, False]


def test_updates_that_are_no_numbers_are_left_out_and_counted(table, context, own_module) -> None:
    """The network takes roots, and one client's rows are negative; the other clients go on."""
    owner = np.arange(400) % 8
    frame = table.frame().select(
        "y",
        a=pl.when(pl.Series(owner == 3)).then(-8.0).otherwise(pl.col("a")),
        site=pl.Series(owner.astype(str)),
    )
    data = Dataset.of(frame, Roles.of(label="y", group="site"))
    made = TrainFederated(model=own_module.rooted, rounds=10, learning_rate=0.3).run(data, context)
    record = pl.read_parquet(made.artifacts[2].path)
    assert set(record.filter(~pl.col("kept"))["name"]) == {"3"}
    assert "10 updates were not finite and left out" in made.findings[0].says
    assert made.artifacts[0].facts["by_round"][0]["left_out"] == 1
    assert made.findings[0].verdict == "clean"


def test_nothing_is_trained_when_no_update_is_a_number(table, context, own_module) -> None:
    data = Dataset.of(table.frame(["a", "y"]), Roles.of(label="y"))
    stage = TrainFederated(model=own_module.rooted, rounds=2, clients=2, alpha=100.0)
    with pytest.raises(DataError, match="no client gave a finite update"):
        stage.run(data, context)


def test_one_client_that_scales_its_move_breaks_the_mean_but_not_the_median(digits) -> None:
    """Nine honest clients and one with shuffled labels, whose move is boosted fifty times."""
    from datapipe.stages.train._rows import prepare

    ready = prepare(digits, holdout=0.2, split_seed=0)
    rng = np.random.default_rng(0)
    of_row = rng.integers(0, 10, len(ready.train))
    y = ready.train.y.copy()
    y[of_row == 0] = rng.integers(0, 10, int((of_row == 0).sum()))
    rows = Rows(ready.train.x, y, ready.train.weights, ready.train.row_ids)
    right = {}
    for how in ("mean", "median"):
        torch.manual_seed(0)
        module = build(perceptron(ready.encoding.shape, 10, hidden=(32,)))
        for _ in range(8):
            plan = local_plan(of_row, np.arange(10), 16, 1, rng)
            moved = local_updates(module, rows, plan, 0.1)
            moved[0] *= -50
            _rounds.moved_by(module, aggregated(moved, torch.ones(10), how, 0.1))
        held = torch.from_numpy(ready.held_out.x.dense)
        right[how] = float((module(held).argmax(1).numpy() == ready.held_out.y).mean())
    assert right["median"] > 0.85
    assert right["mean"] < 0.5


def test_running_statistics_are_refused(digits, context, own_module) -> None:
    with pytest.raises(DeclarationError, match="running statistics"):
        TrainFederated(model=own_module.normed).run(digits, context)


def test_one_seed_gives_one_file(table, tmp_path) -> None:
    made = []
    for name in ("a", "b"):
        scratch = tmp_path / name
        scratch.mkdir()
        made.append(TrainFederated(rounds=2, participation=0.5).run(table, Context(3, scratch)))
    for one, other in zip(made[0].artifacts, made[1].artifacts, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rounds": 0}, "rounds=0 must be at least 1"),
        ({"participation": 0.0}, "participation=0.0 must lie in (0, 1]"),
        ({"trim": 0.5}, "trim=0.5 must lie in [0, 0.5)"),
        ({"clip": -1.0}, "clip=-1.0 must be above 0"),
        ({"alpha": 0.0}, "alpha=0.0 must be above 0"),
    ],
)
def test_wrong_parameters_are_told_in_the_plan(wrong, says) -> None:
    assert any(says in problem for problem in TrainFederated(**wrong).check())
    assert not TrainFederated().check()
