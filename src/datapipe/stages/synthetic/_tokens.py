# SPDX-License-Identifier: Apache-2.0
"""Texts as numbers of words, row by row, and how often each word occurs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.stages.synthetic._words import TERM

Ints = NDArray[np.int64]

BATCH_BYTES = 1 << 24


@dataclass(frozen=True)
class Tokens:
    """The tokens of many texts, one after the other.

    Args:
        ids: int64, shape (m,), in 0..kinds-1, numbered by first occurrence.
        rows: int64, shape (m,); the text of each token.
        kinds: How many different tokens there are.
    """

    ids: Ints
    rows: Ints
    kinds: int

    def of(self, rows: Ints) -> Ints:
        """The tokens of some texts, in the order asked for."""
        edges = self._edges
        parts = [self.ids[edges[r] : edges[r + 1]] for r in rows if r + 1 < edges.size]
        return np.concatenate(parts) if parts else self.ids[:0]

    def sizes(self, rows: Ints) -> Ints:
        """How many tokens some texts have, in the order asked for."""
        whole = np.append(np.diff(self._edges), 0)
        return np.asarray(whole[np.minimum(rows, whole.size - 1)], np.int64)

    @cached_property
    def _edges(self) -> Ints:
        """Where each text begins among the tokens, and where the last one ends."""
        return np.searchsorted(self.rows, np.arange(int(self.rows.max(initial=-1)) + 2))


def tokens_of(texts: pl.Series) -> Tokens:
    """Split texts into lower-case words, numbers and signs.

    Args:
        texts: Strings, shape (n,); null counts as empty.

    Returns:
        The tokens in reading order.
    """
    plain = texts.cast(pl.String).fill_null("").str.to_lowercase()
    frame = (
        pl.DataFrame({"row": np.arange(len(texts)), "t": plain.str.extract_all(TERM)})
        .explode("t", empty_as_null=True, keep_nulls=True)
        .drop_nulls()
    )
    kinds = frame.select("t").unique(maintain_order=True).with_row_index("id")
    told = frame.join(kinds, on="t", how="left", maintain_order="left")
    ids = told["id"].to_numpy().astype(np.int64)
    return Tokens(ids, told["row"].to_numpy().astype(np.int64), kinds.height)
