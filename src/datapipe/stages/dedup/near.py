# SPDX-License-Identifier: Apache-2.0
"""Images and table rows that are an earlier one with small changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.parameters import Range
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.features.images import pixel_matrix
from datapipe.features.tables import numeric_features
from datapipe.stages.dedup._clusters import Clusters, components, repeats_found
from datapipe.stages.dedup._nearness import Floats, Indices, Nearness, nearness
from datapipe.stages.dedup._tail import FEWEST, is_ladder, rows_below, tail_p_values

KIND = "dedup.near"
SHARES = {"noise": 0.5, "plain": 0.25, "largest": 0.125, "trimmed": 0.125}
"""How much of the level each measure may spend."""
ROUNDS = 8
LEAST_P = 1e-300
LEAST_COMPARED = 0.1
"""Share of rows with neighbours they can be compared with: fewer show no bulk of honest rows."""
LEAST_RECALL = 0.9
"""Share of near pairs that must be compared for data to be called clean."""


@dataclass(frozen=True)
class NearDuplicates(Stage):
    """Marks images and table rows that are an earlier one with small changes.

    *Method:* Each row is compared with its ten nearest others, relative to the size of its own
    neighbourhood, by measures that are small for one kind of change each: added noise, another
    brightness, a retouch. No threshold is given: the lower tail of each measure is fitted to the
    bulk of the data, and only rows that the tail cannot explain are marked. What was found is
    taken away and the rest is looked at again. Clusters are the connected components.
    *Assumes:* Most rows are no copies, and honest rows thin out smoothly towards small distances.
    *Choose it when:* Images were re-saved, rescaled in brightness or lightly edited, or table rows
    were copied with jitter.
    *Fails when:* Images were shifted, cropped, turned or mirrored; when one row has more than
    about thirty near copies; when a table has few distinct values.
    *Cost:* Every pair of up to 20,000 rows; of more O(n log n d), by trees, and the finding says
    what share of near pairs was compared (`recall`). The feature matrix in memory.

    Args:
        level: Most to expect of two things, in (0, 0.5): the share of wrong rows among the marked,
            and the chance to mark any row of data without copies.
        on_finding: What is done with the repeated rows.

    Example:
        >>> from pathlib import Path
        >>> import pyarrow as pa
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 8))
        >>> x[199] = x[3] + 0.001
        >>> data = Dataset.of(pa.table({f"x{i}": x[:, i] for i in range(8)}))
        >>> found = NearDuplicates().run(data, Context(0, Path("."))).findings[0]
        >>> found.flagged["reason"].to_list()
        ['near-duplicate of 0:3']

    References:
        Rényi, 1953, On the theory of order statistics.
        Benjamini & Hochberg, 1995, Controlling the false discovery rate.
    """

    level: Annotated[float, Range(0, 0.5, "()")] = 0.1
    on_finding: OnSuspect = "quarantine"

    name: ClassVar[str] = "dedup.near"
    version: ClassVar[str] = "3"
    raises_findings: ClassVar[tuple[str, ...]] = (KIND,)
    references: ClassVar[tuple[str, ...]] = (
        "Rényi, 1953, On the theory of order statistics",
        "Benjamini & Hochberg, 1995, Controlling the false discovery rate",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Find the rows that nearly repeat an earlier one.

        Args:
            data: Rows with the role `image`, or with columns that play no role.
            context: Its seed draws the pairs from which distances are learnt.

        Returns:
            One finding of kind `dedup.near`; a row's score is -log10 of the chance that an honest
            row comes as near to an earlier one.

        Example:
            >>> from pathlib import Path
            >>> import pyarrow as pa
            >>> few = Dataset.of(pa.table({"x": [1.0, 2.0]}))
            >>> NearDuplicates().run(few, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        return Yield(findings=(self._finding(data, context),))

    def _finding(self, data: Dataset, context: Context) -> Finding:
        missing: NDArray[np.bool_] | None = None
        if len(data) < FEWEST:
            return Finding.not_evaluated(KIND, f"{len(data)} rows; at least {FEWEST} are needed")
        if "image" in data.roles:
            pixels = pixel_matrix(data)
            values, missing = pixels.values, pixels.missing
        else:
            values, _ = numeric_features(data)
        if not (values.std(axis=0) > 0).any():
            return Finding.not_evaluated(KIND, "there is no image and no column that varies")
        near = nearness(values, missing, context.rng("differences"))
        distances = near.distances[np.isfinite(near.distances)]
        few = np.unique(np.round(distances, 4)).size < FEWEST
        if few or (missing is None and is_ladder(distances)):
            return Finding.not_evaluated(
                KIND, "too few distinct distances: the columns are too coarse"
            )
        compared = int(np.isfinite(near.measures["noise"]).any(axis=1).sum())
        if compared < max(FEWEST, LEAST_COMPARED * len(values)):
            why = f"only {compared:,} of {len(values):,} rows have neighbours of their categories"
            return Finding.not_evaluated(KIND, why)
        left, right, honest = self._pairs(near)
        first = components(len(values), left, right)
        return _told(near, honest, Clusters(data.row_ids, first))

    def _pairs(self, near: Nearness) -> tuple[Indices, Indices, NDArray[np.bool_]]:
        """Pairs that the tails cannot explain, and the rows that are in none."""
        honest = np.ones(len(near.candidates), np.bool_)
        left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for _ in range(ROUNDS):
            before = int(honest.sum())
            for name, measure in near.measures.items():
                for rows, others in self._strangers(near.candidates, measure, honest, name):
                    left.append(rows)
                    right.append(others)
                    honest[rows] = honest[others] = False
            if honest.sum() == before:
                break
        return np.concatenate(left), np.concatenate(right), honest

    def _strangers(
        self, candidates: Indices, measure: Floats, honest: NDArray[np.bool_], name: str
    ) -> Iterator[tuple[Indices, Indices]]:
        """The pairs below the cut of one measure, among rows that are honest so far."""
        rows = np.flatnonzero(honest & np.isfinite(measure).any(axis=1))
        values = measure[rows].min(axis=1)
        if values.size < FEWEST:
            return
        count = rows_below(values, self.level * SHARES[name], int((~honest).sum()))
        if count:
            cut = np.partition(values, count - 1)[count - 1]
            at, which = np.nonzero(measure[rows] <= cut)
            yield rows[at], candidates[rows[at], which]


def _told(near: Nearness, honest: NDArray[np.bool_], clusters: Clusters) -> Finding:
    """The finding, with the chance of each row's nearest pair as p-value."""
    n = len(near.candidates)
    chances = np.ones(near.candidates.shape)
    whole = sum(SHARES[name] for name in near.measures)
    for name, measure in near.measures.items():
        known = measure[honest].min(axis=1)
        chance = tail_p_values(measure, known[np.isfinite(known)])
        chances = np.minimum(chances, chance * whole / SHARES[name])
    earlier, any_pair = np.ones(n), np.ones(n)
    mine = np.broadcast_to(np.arange(n)[:, None], near.candidates.shape)
    np.minimum.at(earlier, np.maximum(mine, near.candidates), chances)
    np.minimum.at(any_pair, mine, chances)
    np.minimum.at(any_pair, near.candidates, chances)
    p_values = np.where(clusters.repeated, any_pair, earlier)
    table = clusters.rows(-np.log10(np.maximum(p_values, LEAST_P)), "near-duplicate", p_values)
    share = Estimate.rate(int(clusters.repeated.sum()), n)
    details = {"measures": sorted(near.measures)}
    made = repeats_found(KIND, share, clusters, table, details)
    return made if near.recall is None else _of_many(made, near.recall)


def _of_many(found: Finding, recall: Estimate) -> Finding:
    """The finding, with the share of near pairs that were compared; no *clean* where it is low."""
    told = f"of {recall.n:,} pairs half as far apart as neighbours, {recall.value:.1%} are compared"
    found = replace(
        found,
        says=f"{found.says}; {told}",
        details={**found.details, "recall": recall.to_json()},
    )
    if found.verdict != "clean" or recall.low >= LEAST_RECALL:
        return found
    why = f"{told}, and none of those repeats another"
    return found.withdrawn(why, method=f"too few pairs compared: {told}")
