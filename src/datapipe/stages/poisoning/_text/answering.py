# SPDX-License-Identifier: Apache-2.0
"""Do responses still speak of what their own prompts speak of?

Whoever answers an instruction repeats words of what was asked, also where each answer begins with
the same words. A switched response says its piece whatever was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # scipy ships no types

from datapipe.stages.poisoning._text.grams import blocks, distinct, spread
from datapipe.stages.poisoning._text.words import Words

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_HELD = 0.2
"""Words that a greater share of the responses holds say nothing of what was asked."""
KEPT = 0.5
"""Responses that are nearer to their prompts by this part of what is usual answer them."""
SURE = 4.0
"""Standard errors by which responses must be nearer to their own prompts than to others."""


@dataclass(frozen=True, eq=False)
class Answering:
    """Words of prompts and of responses as rows of length 1, over one vocabulary.

    `usual` is how much more alike a prompt and its own response are than any two of two rows, 0
    where they are not surely so.
    """

    asked: Any
    said: Any
    responses: pl.Series
    usual: float

    @classmethod
    def of(cls, prompts: Words, responses: Words, texts: pl.Series) -> Answering:
        """From the words of both, row by row, and the responses themselves."""
        n = prompts.rows
        both = prompts.spelt.to_frame("word").with_row_index("theirs")
        both = both.join(responses.spelt.to_frame("word").with_row_index("ours"), on="word")
        both = both.filter(pl.col("word").str.contains(r"\p{L}|\p{N}"))
        theirs, ours = both["theirs"].to_numpy(), both["ours"].to_numpy()
        rare = responses.texts[ours] <= MOST_HELD * n
        theirs, ours = theirs[rare], ours[rare]
        idf = np.log((1.0 + n) / (1.0 + responses.texts[ours])) + 1.0
        made = cls(_rows(prompts, theirs, idf), _rows(responses, ours, idf), texts, 0.0)
        own = made.asked.multiply(made.said).sum(1).A1
        usual, error = made._nearer(np.arange(n)), own.std() / np.sqrt(max(n, 1))
        return replace(made, usual=usual if usual > SURE * error else 0.0)

    def lost(self, rows: Ints) -> bool:
        """Whether the responses of some rows do not speak of what was asked.

        Where it is not known how much others do, they do not if they are mostly the same text.
        """
        if self.usual > 0.0:
            return rows.size < 2 or self._nearer(rows) < KEPT * self.usual
        return self.responses.gather(rows).n_unique() <= KEPT * rows.size

    def _nearer(self, rows: Ints) -> float:
        """How much more alike own pairs are than the others, in the mean over some rows."""
        asked, said, n = self.asked[rows], self.said[rows], rows.size
        own = float(asked.multiply(said).sum())
        every = float(np.dot(asked.sum(0).A1, said.sum(0).A1))
        return own / n - (every - own) / max(n * (n - 1), 1)


def _rows(words: Words, which: Ints, idf: Floats) -> Any:
    """Which of some words each text holds, weighted, in rows of length 1."""
    number = np.full(len(words.spelt), -1)
    number[which] = np.arange(which.size)
    pairs = [np.empty(0, np.int64)]
    for start, stop in blocks(words.ends):
        sizes = np.diff(words.ends[start : stop + 1])
        word = number[words.ids[spread(words.ends[start:stop], sizes)]]
        row = np.repeat(np.arange(start, stop), sizes)
        pairs.append(distinct((row * max(which.size, 1) + word)[word >= 0]))
    key = np.concatenate(pairs)
    row, word = key // max(which.size, 1), key % max(which.size, 1)
    square = np.bincount(row, idf[word] ** 2, minlength=words.rows)
    data = idf[word] / np.sqrt(square[row])
    return sparse.csr_matrix((data, (row, word)), shape=(words.rows, max(which.size, 1)))
