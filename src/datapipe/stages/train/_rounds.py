# SPDX-License-Identifier: Apache-2.0
"""Federated rounds in one process: every client's local steps at once, then one aggregate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from datapipe.stages.train._rows import Rows

Aggregate = Literal["mean", "median", "trimmed"]
Ints = NDArray[np.int64]
Weights = dict[str, Tensor]

NUMBERS_HELD = 1 << 24
"""How many weights and features of clients are held at once: bounds the memory."""


def local_updates(module: nn.Module, rows: Rows, plan: Ints, learning_rate: float) -> Tensor:
    """How each client's weights move in its local steps, float32 of shape (clients, parameters).

    The weights get one more side, the client, and one vectorised gradient serves all clients; the
    result is that of training one client after the other.
    """
    start = {k: p.detach() for k, p in module.named_parameters()}
    size = sum(p.numel() for p in start.values())
    moved = torch.empty((len(plan), size), device=next(iter(start.values())).device)
    busy = (plan >= 0).any(axis=2).sum(axis=1)
    for chosen in _alike(busy, size + int(plan[0].size) * int(np.prod(rows.x.shape))):
        steps = plan[chosen, : int(busy[chosen].max(initial=0))]
        ended = _together(module, start, rows, steps, learning_rate)
        parts = [(ended[k] - p).flatten(1) for k, p in start.items()]
        moved[torch.from_numpy(chosen).to(moved.device)] = torch.cat(parts, dim=1)
    return moved


def _alike(busy: Ints, numbers: int) -> Iterator[Ints]:
    """Clients with about equally many steps, as many at once as the memory allows."""
    order = np.argsort(busy, kind="stable")
    many = max(1, NUMBERS_HELD // max(numbers, 1))
    for first in range(0, len(order), many):
        yield order[first : first + many]


def _together(
    module: nn.Module, start: Weights, rows: Rows, plan: Ints, learning_rate: float
) -> Weights:
    clients = len(plan)
    weights = {k: p.expand(clients, *p.shape).clone() for k, p in start.items()}
    gradient = vmap(grad(_loss(module)), randomness="different")
    device = next(iter(start.values())).device
    y, given = torch.from_numpy(rows.y).to(device), torch.from_numpy(rows.weights).to(device)
    for step in range(plan.shape[1]):
        index = plan[:, step]
        there = torch.from_numpy(index >= 0).to(device)
        safe = np.maximum(index, 0)
        x = torch.from_numpy(rows.x.take(safe.ravel())).to(device)
        x = x.reshape(clients, index.shape[1], *rows.x.shape)
        slopes = gradient(weights, x, y[safe], given[safe] * there)
        for key, slope in slopes.items():
            weights[key].sub_(slope, alpha=learning_rate)
    return weights


def _loss(module: nn.Module) -> Callable[[Weights, Tensor, Tensor, Tensor], Tensor]:
    """The weighted mean loss of one client's batch; empty slots have the weight 0."""

    def loss(weights: Weights, x: Tensor, y: Tensor, given: Tensor) -> Tensor:
        said = functional_call(module, weights, (x,))
        losses = nn.functional.cross_entropy(said, y, reduction="none")
        return (given * losses).sum() / given.sum().clamp_min(1e-12)

    return loss


def bounded(moved: Tensor, clip: float | None) -> tuple[Tensor, Tensor]:
    """Updates scaled down to a norm, and which of them are finite, bool of shape (clients,)."""
    finite = torch.isfinite(moved).all(dim=1)
    if clip is None:
        return moved, finite
    norms = moved.norm(dim=1, keepdim=True)
    return moved * (clip / norms.clamp_min(1e-12)).clamp(max=1.0), finite


def aggregated(moved: Tensor, sizes: Tensor, how: Aggregate, trim: float) -> Tensor:
    """One update from those of the clients, float32 of shape (parameters,).

    `mean` weighs clients by their rows; `median` and `trimmed` look at every coordinate apart and
    give each client one vote, so that a minority cannot move it far.

    References: McMahan et al., 2017, Communication-efficient learning of deep networks from
    decentralized data. Yin et al., 2018, Byzantine-robust distributed learning.
    """
    if how == "mean":
        return (sizes / sizes.sum()) @ moved
    ordered = moved.sort(dim=0).values
    n = len(ordered)
    cut = (n - 1) // 2 if how == "median" else min(int(trim * n), (n - 1) // 2)
    return ordered[cut : n - cut].mean(dim=0)


def moved_by(module: nn.Module, update: Tensor) -> None:
    """Add an update to the weights of a network."""
    at = 0
    with torch.no_grad():
        for p in module.parameters():
            p.add_(update[at : at + p.numel()].view_as(p))
            at += p.numel()
