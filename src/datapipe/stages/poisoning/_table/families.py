# SPDX-License-Identifier: Apache-2.0
"""Kinds of predicates, each with its part of alpha: that there are many pairs costs no value."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.predicates import FEWEST_PLANTED, Cells, Column

Family = Literal["value", "met", "pair", "range", "within", "box", "decile"]
"""A value; two that meet more often than by chance; two others; a crowded range; one in the
rows of a category; two of two numbers, or one in the rows of one of many values; one of deciles."""
PART: dict[Family, float] = {
    "value": 0.35,
    "met": 0.35,
    "pair": 0.05,
    "range": 0.1,
    "within": 0.1,
    "box": 0.05,
}
"""Parts of alpha. Whoever plants a pair makes its halves meet, which is seen without a label."""
SPREADS = 3.0
"""Standard deviations by which halves meet more often than by chance."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def families(cells: Cells, columns: list[Column], names: Ints, held: Ints) -> list[Family]:
    """The family of each cell that some rows hold.

    Args:
        cells: All predicates over one column or pair.
        columns: What they are made of.
        names: int64, shape (m,): the cells that are asked about.
        held: int64, shape (m,): how many rows hold each.

    Returns:
        m families.
    """
    if any(columns[c].binned for c in cells.columns):
        return ["decile"] * names.size
    if len(cells.columns) == 1:
        return ["value"] * names.size
    codes = names // cells.width, names % cells.width
    counts = [
        np.bincount(code[code >= 0])[mine]
        for c, mine in zip(cells.columns, codes, strict=True)
        for code in [columns[c].code]
    ]
    chance = counts[0] * counts[1] / cells.cell.size
    met = held - chance >= np.maximum(SPREADS * np.sqrt(chance), FEWEST_PLANTED)
    return ["met" if m else "pair" for m in met.tolist()]


def prices(counts: Counter[Family]) -> dict[Family, float]:
    """What is added to ln p of a predicate, so that alpha holds for all predicates together."""
    everything = math.log(max(counts.total(), 1))
    paid: dict[Family, float] = {
        family: math.log(max(counts[family], 1) / part)
        for family, part in PART.items()
        if counts[family] or family != "box"  # a table may have no two numbers
    }
    return {**paid, "decile": everything}
