# SPDX-License-Identifier: Apache-2.0
"""What the demo found, beside what was planted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from datapipe.cli._demo_chain import row_ids
from datapipe.core.estimate import Estimate
from datapipe.core.roles import ORDINAL_BITS
from datapipe.core.run import Run
from datapipe.testing.worlds import World

CLEANERS = {
    "missing": ("validate.", "missing pixels"),
    "duplicated": ("dedup.near", "near-duplicates"),
    "triggered": ("poisoning.trigger_image", "trigger rows"),
    "flipped": ("labels.", "flipped labels"),
}
"""Fault to the prefix of the reason under which its rows were set aside, and its words."""


@dataclass(frozen=True)
class Score:
    """How well one kind of fault was found.

    Args:
        fault: A name in `datapipe.testing.worlds.FAULTS`.
        words: The fault in words.
        planted: How many rows were planted.
        found: How many rows were set aside for it.
        precision: Share of the found that were planted.
        recall: Share of the planted that were found.

    Example:
        >>> Score("flipped", "flips", 2, 2, Estimate.rate(2, 2), Estimate.rate(2, 2)).planted
        2
    """

    fault: str
    words: str
    planted: int
    found: int
    precision: Estimate
    recall: Estimate

    def to_json(self) -> dict[str, Any]:
        """The score as JSON values.

        Returns:
            A dictionary.

        Example:
            >>> Score("a", "b", 0, 0, Estimate.rate(0, 0), Estimate.rate(0, 0)).to_json()["found"]
            0
        """
        return {
            "fault": self.fault,
            "planted": self.planted,
            "found": self.found,
            "precision": self.precision.to_json(),
            "recall": self.recall.to_json(),
        }


def scores(world: World, run: Run) -> list[Score]:
    """Hold the rows that a run set aside against the truth.

    A near-duplicate counts as found when either row of its pair was set aside. Labels are judged
    on the rows that were still there when the labels were looked at.

    Args:
        world: The world that the run read.
        run: The cleaning run.

    Returns:
        One score a fault, in the order of the chain.
    """
    numbers = {s.name: s.number for s in run.data.sources}
    dropped = run.sql("select row_id, reason from dropped_rows where run_id = $run", run=run.run_id)
    gone = pl.Series(dtype=pl.UInt64)
    found: list[Score] = []
    for fault, (prefix, words) in CLEANERS.items():
        aside = dropped.filter(pl.col("reason").str.starts_with(prefix))["row_id"].cast(pl.UInt64)
        if fault == "duplicated":
            found.append(_pairs(world, numbers, aside, words))
        else:
            planted = row_ids(world, numbers, fault)
            left = planted.filter(~planted.is_in(gone.implode()))
            hits = int(aside.is_in(left.implode()).sum())
            found.append(_score(fault, words, left.len(), aside.len(), (hits, hits)))
        gone = pl.concat([gone, aside])
    return found


def _pairs(world: World, numbers: Mapping[str, int], aside: pl.Series, words: str) -> Score:
    """Near-duplicates are pairs: setting either row aside mends the pair."""
    pairs: list[tuple[int, int]] = []
    for name, truth in world.truth.items():
        for ordinal, (other, origin) in zip(truth.duplicated, truth.duplicate_of, strict=True):
            copy = (numbers[name] << ORDINAL_BITS) + int(ordinal)
            pairs.append((copy, (numbers[other] << ORDINAL_BITS) + origin))
    taken = set(aside.to_list())
    members = {row for pair in pairs for row in pair}
    recalled = sum(1 for pair in pairs if taken & set(pair))
    return _score("duplicated", words, len(pairs), len(taken), (len(taken & members), recalled))


def _score(fault: str, words: str, planted: int, found: int, hits: tuple[int, int]) -> Score:
    right, recalled = hits
    return Score(
        fault, words, planted, found, Estimate.rate(right, found), Estimate.rate(recalled, planted)
    )
