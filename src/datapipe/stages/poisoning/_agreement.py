# SPDX-License-Identifier: Apache-2.0
"""What a row's label may be by what it holds and by what others said of the very same item."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.measure.calibration import softened, temperature
from datapipe.measure.crowd import Answers
from datapipe.measure.crowd_models import confusions, normalised

ROUNDS = 20
SKILL = 0.8
"""How often sources are held to be right in the first round."""
OWN = 3.0
"""Answers of a class that all sources together count for in what is learnt of one."""
MOST_CELLS = 20_000_000
"""Sources times classes squared, beyond which all sources count as equally good."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def with_answers(shares: Floats, labels: Ints, item: Ints, who: Ints, heard: Bools) -> Floats:
    """The chance of each label that an honest source would give, knowing what others answered.

    Dawid and Skene's method with what a model makes of an item for its prior; confusion matrices of
    sources are drawn towards that of all. What a source says tells nothing of its own rows. Those
    who answer alike share their doubt of a hard item: chances are made as sure as labels bear out.

    Args:
        shares: Chances of each label by what the row holds, shape (n, K).
        labels: int64 in 0..K-1, shape (n,).
        item: int64, shape (n,); the same for rows that ask the same.
        who: int64 >= 0, shape (n,); each row's source.
        heard: bool, shape (n,); rows whose labels tell of other sources' rows.

    Returns:
        float64, shape (n, K); as given in rows of items that nobody else answered.

    References:
        Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates using the EM
        algorithm.
    """
    asked, voice = _numbered(item), _numbered(item, who)
    speaks = np.bincount(voice[heard], minlength=int(voice.max()) + 1) > 0
    voices = np.zeros(int(asked.max()) + 1, np.int64)
    first = np.unique(voice, return_index=True)[1]
    np.add.at(voices, asked[first], speaks)
    met = voices[asked] > speaks[voice]  # somebody else answered
    if not met.any():
        return shares
    k, told = shares.shape[1], heard & (voices[asked] > 0)
    source = _numbered(who)
    if (int(source.max()) + 1) * k * k > MOST_CELLS:
        source = np.zeros_like(source)
    sizes = (voices.size, int(source.max()) + 1, k)
    answers = Answers(asked[told], source[told], labels[told], *sizes)
    counted = np.bincount(asked, minlength=voices.size)[:, None]
    prior = np.log(np.stack([np.bincount(asked, s, voices.size) for s in shares.T], 1) / counted)
    logs, crowd = _learnt(answers, prior)
    said = logs[source * k + labels] * told[:, None]
    own = np.stack([np.bincount(voice, column) for column in said.T], 1)
    truth, _ = normalised((prior + answers.by_item.of(logs))[asked] - own[voice])
    made = (truth @ crowd.T)[met]
    joined = shares.copy()
    joined[met] = softened(made, temperature(made, labels[met]))
    return joined


def _learnt(answers: Answers, prior: Floats) -> tuple[Floats, Floats]:
    """Log chances of what each source says, (sources * said, true), and the crowd's, (said, true).

    By EM from a crowd that is mostly right.
    """
    k = answers.n_classes
    crowd = np.full((k, k), (1.0 - SKILL) / (k - 1))
    np.fill_diagonal(crowd, SKILL)
    logs = np.tile(np.log(crowd), (answers.n_annotators, 1))
    for _ in range(ROUNDS):
        truth, _ = normalised(prior + answers.by_item.of(logs))
        counts = confusions(answers, truth)
        crowd = counts.sum(0) + 1.0 / k
        crowd /= crowd.sum(0)
        counts += OWN * crowd
        counts /= counts.sum(1, keepdims=True)
        logs = np.log(counts).reshape(-1, k)
    return logs, crowd


def _numbered(*values: Ints) -> Ints:
    """Whole numbers from 0 on, the same where all values are."""
    frame = pl.DataFrame({str(i): v for i, v in enumerate(values)})
    made = frame.select(pl.struct(pl.all()).rank("dense"))
    return made.to_series().to_numpy().astype(np.int64) - 1
