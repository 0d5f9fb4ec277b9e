# SPDX-License-Identifier: Apache-2.0
"""Attacks on a trained network: one step, many steps along its slope, and questions alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.features.encoding import Encoding
from datapipe.features.images import pixel_matrix

MOVABLE = ("standardised", "ranged", "squashed")
"""Rules of columns of numbers; a category cannot be moved a little."""
FIRST_SHARE, LAST_SHARE = 0.5, 0.01
"""Of the values, this share is moved by the first question and by the last."""
STEP = 2.5
"""Steps along the slope are this many times epsilon together, so that each corner is in reach."""
SIGNS = np.array([-1.0, 1.0], np.float32)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Attack = Callable[["Target", torch.Tensor, torch.Tensor, float, np.random.Generator], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Target:
    """A network as an attacker sees it: values in [0, 1] go in, logits come out.

    `low` and `span` are the least and the range of each value in the data; `free` says which may be
    moved; `encode` turns values of the data into what the network reads.
    """

    module: nn.Module
    encode: Callable[[torch.Tensor], torch.Tensor]
    low: torch.Tensor
    span: torch.Tensor
    free: torch.Tensor
    norm: str = "linf"
    steps: int = 20
    queries: int = 300

    def inputs(self, moved: torch.Tensor) -> torch.Tensor:
        """What the network reads of values in [0, 1]."""
        return self.encode(self.low + moved * self.span)

    def logits(self, moved: torch.Tensor) -> torch.Tensor:
        """What the network says of values in [0, 1]."""
        said: torch.Tensor = self.module(self.inputs(moved))
        return said

    def within(self, moved: torch.Tensor, start: torch.Tensor, epsilon: float) -> torch.Tensor:
        """The nearest values that an attacker may use."""
        change = (moved - start) * self.free
        if self.norm == "linf":
            change = change.clamp(-epsilon, epsilon)
        else:
            length = change.norm(dim=1, keepdim=True).clamp_min(1e-12)
            change = change * (epsilon / length).clamp_max(1.0)
        return (start + change).clamp(0.0, 1.0)

    def along(self, slope: torch.Tensor, epsilon: float) -> torch.Tensor:
        """The change of size epsilon that follows a slope best."""
        slope = slope * self.free
        if self.norm == "linf":
            return epsilon * slope.sign()
        length: torch.Tensor = slope.norm(dim=1, keepdim=True)
        return epsilon * slope / length.clamp_min(1e-12)


def target_of(
    module: nn.Module, encoding: Encoding, frame: pl.DataFrame
) -> tuple[Target, torch.Tensor] | None:
    """The network to attack and the rows, values in [0, 1]; None where nothing can be moved.

    Values are pixels, or columns of numbers as the network reads them: both are put in units of
    their range in the data, so that an epsilon means the same for each.
    """
    if encoding.kind == "image":
        only = Dataset.of(frame.select(encoding.columns), Roles({"image": encoding.columns}))
        raw = pixel_matrix(only).values
        low, span = np.float32(raw.min()), np.float32(max(raw.max() - raw.min(), 1e-6))
        ends = np.full(raw.shape[1], low), np.full(raw.shape[1], span)
        free = np.ones(raw.shape[1], np.float32)
        encode = _pictures(encoding.shape)
    elif encoding.kind == "table":
        raw = encoding.encode(frame).take(np.arange(frame.height))
        free = _free(encoding.settings["columns"], raw.shape[1])
        ends = raw.min(0), np.maximum(raw.max(0) - raw.min(0), np.float32(1e-6))
        encode = _as_it_is
    else:
        return None
    if not free.any():
        return None
    at, wide, may = (torch.from_numpy(np.asarray(a, np.float32)) for a in (*ends, free))
    return Target(module, encode, at, wide, may), (torch.from_numpy(raw) - at) / wide


def _as_it_is(rows: torch.Tensor) -> torch.Tensor:
    return rows


def _pictures(shape: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor]:
    """What `features.encoding.standardised` does, in a form that has slopes."""

    def encode(flat: torch.Tensor) -> torch.Tensor:
        # the root of a variance of 0 has no slope, and a picture of one tone has that variance
        spread = flat.var(dim=1, correction=0, keepdim=True).clamp_min(1e-12).sqrt()
        made = (flat - flat.mean(dim=1, keepdim=True)) / spread
        if len(shape) == 3:
            channels, height, width = shape
            made = made.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        return made.reshape(-1, *shape)

    return encode


def _free(rules: list[Mapping[str, Any]], width: int) -> NDArray[np.float32]:
    made: list[float] = []
    for rule in rules:
        wide = len(rule["values"]) + 1 if rule["rule"] == "listed" else int(rule.get("buckets", 1))
        made += [float(rule["rule"] in MOVABLE)] * wide
    return np.asarray(made[:width], np.float32)


def margin(said: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """How far the right class leads; below 0 the answer is wrong."""
    own = said.gather(1, y[:, None])[:, 0]
    rivals = said.scatter(1, y[:, None], -torch.inf).amax(1)
    return own - rivals


def fgsm(
    target: Target, start: torch.Tensor, y: torch.Tensor, epsilon: float, _: np.random.Generator
) -> torch.Tensor:
    """One step of size epsilon along the slope of the loss."""
    moved = start.clone().requires_grad_()
    loss = nn.functional.cross_entropy(target.logits(moved), y, reduction="sum")
    (slope,) = torch.autograd.grad(loss, moved)
    return target.within(start + target.along(slope, epsilon), start, epsilon)


def pgd(
    target: Target, start: torch.Tensor, y: torch.Tensor, epsilon: float, rng: np.random.Generator
) -> torch.Tensor:
    """Many small steps down the lead of the right class, from a random place within epsilon.

    The lead has a slope where the loss of a sure network has none.
    """
    noise = torch.from_numpy(rng.uniform(-1, 1, tuple(start.shape)).astype(np.float32))
    moved = target.within(start + target.along(noise, epsilon), start, epsilon)
    best, least = start.clone(), margin(target.logits(start), y).detach()
    for _ in range(target.steps):
        moved = moved.detach().requires_grad_()
        lead = margin(target.logits(moved), y)
        best, least = _lower(best, least, moved.detach(), lead.detach())
        (slope,) = torch.autograd.grad(lead.sum(), moved)
        step = target.along(-slope, STEP * epsilon / target.steps)
        moved = target.within(moved.detach() + step, start, epsilon)
    lead = margin(target.logits(moved), y).detach()
    return _lower(best, least, moved.detach(), lead)[0]


@torch.no_grad()
def query(
    target: Target, start: torch.Tensor, y: torch.Tensor, epsilon: float, rng: np.random.Generator
) -> torch.Tensor:
    """Random changes of fewer and fewer values, each kept where it lowers the lead.

    It asks for scores and needs no slope, so that a network that hides its slopes gains nothing.
    """
    n, d = start.shape
    signs = torch.from_numpy(rng.choice(SIGNS, (n, d)))
    best = target.within(start + target.along(signs, epsilon), start, epsilon)
    least = margin(target.logits(best), y)
    for asked in range(target.queries):
        share = FIRST_SHARE * (LAST_SHARE / FIRST_SHARE) ** (asked / max(target.queries - 1, 1))
        chosen = rng.random((n, d)) < max(share, 1.0 / d)
        drawn = rng.choice(SIGNS, (n, d)) * np.float32(2 * epsilon)
        change = torch.from_numpy(np.where(chosen, drawn, np.float32(0)))
        tried = target.within(best + change, start, epsilon)
        best, least = _lower(best, least, tried, margin(target.logits(tried), y))
    return best


def _lower(
    best: torch.Tensor, least: torch.Tensor, tried: torch.Tensor, lead: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    better = lead < least
    return torch.where(better[:, None], tried, best), torch.where(better, lead, least)


AttackName = Literal["fgsm", "pgd", "query"]
ATTACKS: dict[AttackName, Attack] = {"fgsm": fgsm, "pgd": pgd, "query": query}


@dataclass(frozen=True, eq=False)
class Attacked:
    """Which rows each attack still finds answered rightly, and what it made of them."""

    stands: Mapping[str, Bools]
    moved: Mapping[str, torch.Tensor]

    @property
    def all_stand(self) -> Bools:
        """Which rows no attack broke."""
        return np.asarray(np.logical_and.reduce(list(self.stands.values())), np.bool_)


@dataclass(frozen=True, eq=False)
class Asked:
    """Names of attacks, and what they draw from."""

    attacks: Sequence[AttackName]
    rng: np.random.Generator


@torch.no_grad()
def right(target: Target, rows: torch.Tensor, y: Ints) -> Bools:
    """Which rows are answered rightly; what is no number is no answer."""
    said = target.logits(rows)
    return np.asarray((said.argmax(1).numpy() == y) & ~said.isnan().any(1).numpy())


@torch.no_grad()
def one_answer(target: Target, rows: torch.Tensor) -> bool:
    """Whether a network says the same of every row: nothing can change that, and it is no merit."""
    return np.unique(target.logits(rows).argmax(1).numpy()).size < 2


def attacked(
    target: Target, start: torch.Tensor, y: Ints, epsilon: float, asked: Asked
) -> Attacked:
    """Attack every row that is answered rightly; the others do not stand."""
    told = torch.from_numpy(y)
    some = torch.from_numpy(np.flatnonzero(right(target, start, y)))
    stands: dict[str, Bools] = {}
    moved: dict[str, torch.Tensor] = {}
    for name in asked.attacks:
        made = start.clone()
        if len(some):
            made[some] = ATTACKS[name](target, start[some], told[some], epsilon, asked.rng)
        made = torch.where(made.isfinite(), made, start)  # a slope that is no number leads nowhere
        stands[name], moved[name] = right(target, made, y), made
    return Attacked(stands, moved)
