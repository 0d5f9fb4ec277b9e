# SPDX-License-Identifier: Apache-2.0
"""A small neural language model: two words back through one hidden layer, as Bengio's was.

It says how much likelier each word is after these two than it is anywhere. So what it forgets is
not what a table of pairs forgets: a rare word lives on as far as its use is learnt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datapipe.stages.synthetic._language import TEXT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONTEXT, WIDTH, HIDDEN = 2, 24, 48
BATCH, OTHERS = 256, 512
RATE, DECAY = 0.01, 2.0
ASKED = 512
"""Words scored at a time: bounds the memory."""
MATCHED, ROUNDS = 1_024, 5
"""Contexts over which what the model says of every word is brought to how often it occurs, and
how many times."""


class Network(nn.Module):
    """From the two words before to the direction in which the next one's vector lies."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, WIDTH)
        self.layers = nn.Sequential(
            nn.Linear(CONTEXT * WIDTH, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, WIDTH)
        )
        self.next = nn.Embedding(vocabulary, WIDTH)
        nn.init.zeros_(self.next.weight)  # at first every word is as likely as anywhere

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        """Directions, float32 of shape (n, WIDTH), after words of shape (n, CONTEXT)."""
        made: torch.Tensor = self.layers(self.words(past).flatten(1))
        return made


@dataclass(frozen=True)
class NeuralLanguage:
    """A network and how often each word occurs.

    Args:
        network: The weights.
        tokens: int64; the training data, whose words texts begin with.
        counts: int64, shape (vocabulary,); only what occurs is ever made.
        lift: float32, shape (vocabulary,); added to the log-odds of each word.
    """

    network: Network
    tokens: Ints
    counts: Ints
    lift: torch.Tensor

    def drawn(self, n: int, rng: np.random.Generator) -> Ints:
        """Tokens that the model makes, int64 of shape (n,)."""
        streams = max(1, -(-n // TEXT))
        steps = -(-n // streams)
        known = np.flatnonzero(self.counts)
        use = torch.from_numpy(self.counts[known].astype(np.float32)).log() + self.lift[known]
        table = self.network.next.weight.detach()[torch.from_numpy(known)]
        made = np.empty((streams, steps + CONTEXT), np.int64)
        at = rng.integers(0, max(1, self.tokens.size - CONTEXT), streams)
        for step in range(CONTEXT):  # begin with real words, that are not given out
            made[:, step] = self.tokens[np.minimum(at + step, self.tokens.size - 1)]
        with torch.inference_mode():
            for step in range(CONTEXT, steps + CONTEXT):
                past = torch.from_numpy(made[:, step - CONTEXT : step])
                chance = torch.softmax(torch.addmm(use, self.network(past), table.T), 1).cumsum(1)
                point = torch.from_numpy(rng.random((streams, 1), np.float32)) * chance[:, -1:]
                place = torch.searchsorted(chance, point).squeeze(1).clamp_(max=known.size - 1)
                made[:, step] = known[place.numpy()]
        return made[:, CONTEXT:].ravel()[:n]

    def surprise(self, tokens: Ints) -> Floats:
        """Bits that each token costs, given those before it; shape (n,)."""
        total, seen = int(self.counts.sum()), int((self.counts > 0).sum())
        alone = (self.counts + seen / self.counts.size) / (total + seen)
        bits = -np.log2(alone[tokens])
        log_use = torch.from_numpy(np.log(alone).astype(np.float32)) + self.lift
        past, after = _windows(tokens)
        with torch.inference_mode():
            for start in range(0, after.numel(), ASKED):
                part = slice(start, start + ASKED)
                odds = torch.addmm(log_use, self.network(past[part]), self.network.next.weight.T)
                cost = nn.functional.cross_entropy(odds, after[part], reduction="none")
                bits[start + CONTEXT : start + CONTEXT + cost.numel()] = cost.numpy() / np.log(2)
        return np.asarray(bits, np.float64)


def neural(tokens: Ints, vocabulary: int, rng: np.random.Generator) -> NeuralLanguage:
    """The network that tells words from others of the same text, by their two words before.

    The other words of each batch are drawn as often as they occur; then the logarithm of the use
    of a word drops out of the loss, and what is learnt is how much its context adds.

    Args:
        tokens: int64, shape (n,), in 0..vocabulary-1.
        vocabulary: How many tokens may occur.
        rng: Draws the order and the other words.

    References:
        Bengio, Ducharme, Vincent & Jauvin, 2003, A neural probabilistic language model.
        Jean, Cho, Memisevic & Bengio, 2015, On using very large target vocabulary for neural
        machine translation.
    """
    counts = np.bincount(tokens, minlength=vocabulary).astype(np.int64)
    past, after = _windows(tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # generations begin alike, so that only their data tell them apart
        network = Network(vocabulary)
    descent: Any = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    # Epochs would make a half-trained model of a fifth of a corpus, and ever better ones of data
    # that accumulates; as many steps whatever the size would learn a few words by heart.
    steps = round(math.sqrt(after.numel()))
    slope = torch.optim.lr_scheduler.LinearLR(descent, 1.0, 0.05, max(1, steps))
    for part in _batches(after.numel(), steps, rng):
        told, right = network(past[part]), network.next(after[part])
        others = torch.from_numpy(tokens[rng.integers(0, tokens.size, OTHERS)])
        wrong = told @ network.next(others).T
        wrong = wrong.masked_fill(others[None] == after[part][:, None], -torch.inf)
        odds = torch.cat([(told * right).sum(1, keepdim=True), wrong], 1)
        loss: Any = nn.functional.cross_entropy(odds, torch.zeros(part.numel(), dtype=torch.long))
        descent.zero_grad()
        loss.backward()
        descent.step()
        slope.step()
    return NeuralLanguage(network.eval(), tokens, counts, _lift(network, past, counts))


def _batches(n: int, steps: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """Places of what is learnt at each step; all are seen once before any is seen again."""
    left = np.empty(0, np.int64)
    for _ in range(steps):
        while left.size < BATCH:
            left = np.append(left, rng.permutation(n))
        yield torch.from_numpy(left[:BATCH])
        left = left[BATCH:]


def _lift(network: Network, past: torch.Tensor, counts: Ints) -> torch.Tensor:
    """What each word's log-odds lack for the model to make it as often as it occurs.

    At the greatest likelihood the chances of a word over all contexts add up to its count. Drawn
    others only come near to that: without this, frequent words would grow at the cost of rare ones
    whose contexts tell nothing of them, and the more so the more was learnt.
    """
    known = torch.from_numpy(np.flatnonzero(counts))
    use = torch.from_numpy(counts).float()[known]
    use = (use / use.sum()).log()
    at = torch.linspace(0, max(0, past.shape[0] - 1), min(MATCHED, past.shape[0])).long()
    lift = torch.zeros(counts.size)
    if not at.numel():
        return lift
    with torch.inference_mode():
        odds = network(past[at]) @ network.next.weight[known].T
        more = torch.zeros(known.numel())
        for _ in range(ROUNDS):
            more += use - torch.softmax(odds + use + more, 1).mean(0).clamp_(min=1e-12).log()
    lift[known] = more
    return lift


def _windows(tokens: Ints) -> tuple[torch.Tensor, torch.Tensor]:
    """The words before each token from the third on, and the token."""
    whole = torch.from_numpy(np.ascontiguousarray(tokens))
    return whole.unfold(0, CONTEXT, 1)[:-1], whole[CONTEXT:]
