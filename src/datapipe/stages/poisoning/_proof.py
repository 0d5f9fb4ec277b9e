# SPDX-License-Identifier: Apache-2.0
"""What a standard small model makes of the rows found: before they are left out, and after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context, derived_seed
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.errors import DataError
from datapipe.features.encoding import fit_encoding
from datapipe.stages.poisoning._small_network import Trainer

HELD_OUT = 0.2
"""Share of the other rows that no model learns from: they tell the accuracy."""
FEWEST_FOUND = 4
"""Fewer rows than this cannot be parted into rows to learn from and rows to ask."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Proof:
    """Attack success and accuracy of one network, trained with the rows found and without them.

    `before` and `after` are shares of the rows found that get the label they carry from a model
    that has not seen them; `accuracy_before` and `accuracy_after` are of rows held out of the rest.
    """

    before: Estimate
    after: Estimate
    accuracy_before: Estimate
    accuracy_after: Estimate

    def to_json(self) -> dict[str, Any]:
        """Every figure with its interval."""
        return {
            "attack_success_before": self.before.to_json(),
            "attack_success_after": self.after.to_json(),
            "accuracy_before": self.accuracy_before.to_json(),
            "accuracy_after": self.accuracy_after.to_json(),
        }


def proven(finding: Finding, data: Dataset, context: Context) -> Finding:
    """The finding, with what a small model does on the rows that it flags.

    Args:
        finding: What a detector of triggers says, with a line for each row.
        data: The rows it looked at.
        context: Its seed parts the rows and draws the first weights.

    Returns:
        The same finding where it flags too few rows; else one whose details hold `proof`, or
        `not_proven` with the reason.
    """
    if finding.rows is None or int(finding.rows["flagged"].sum()) < FEWEST_FOUND:
        return finding
    at = pl.DataFrame({"row_id": data.row_ids}).with_row_index("place")
    looked = finding.rows.join(at, on="row_id", how="left", maintain_order="left")
    place = looked["place"].to_numpy().astype(np.int64)
    named = data.values("label").cast(pl.String).gather(place)
    labels = named.rank("dense").to_numpy().astype(np.int64) - 1
    try:
        made = proof(data, place, labels, looked["flagged"].to_numpy(), context)
    except DataError as error:
        return replace(finding, details={**finding.details, "not_proven": str(error.args[0])})
    says = (
        f"{finding.says}; a small model gives such rows their label {made.before.value:.0%} of the"
        f" time, {made.after.value:.0%} once they are left out"
    )
    return replace(finding, says=says, details={**finding.details, "proof": made.to_json()})


def proof(data: Dataset, place: Ints, labels: Ints, found: Bools, context: Context) -> Proof:
    """Train a small network with the rows found, half of them at a time, and without them.

    What a trigger does is read off the poisoned rows themselves, each from a model that learnt from
    others of them, so that it needs no picture of the trigger. Where they keep their true label,
    as in an attack with clean labels, a model gives it to them after filtering, too.

    Args:
        data: All rows.
        place: int64, shape (n,): which rows take part.
        labels: int64, shape (n,), in 0..K-1.
        found: bool, shape (n,): the rows that a filter leaves out.
        context: Its seed parts the rows and draws the first weights.

    Returns:
        Both shares, both accuracies, with Wilson's intervals.

    Raises:
        DataError: A value is missing or not finite, or nothing can be learnt from.
    """
    order = context.rng("proof").permutation(place.size)
    rest, mine = order[~found[order]], order[found[order]]
    some = int(HELD_OUT * rest.size)
    asked, fitted = np.sort(rest[:some]), np.sort(rest[some:])
    encoding = fit_encoding(data, rows=place[fitted])
    rows = encoding.encode(data.frame()[place])
    train = Trainer(rows, labels, encoding.kind, derived_seed(context.seed, "proof"))
    halves = mine[::2], mine[1::2]
    right, accuracy = 0, Estimate.unknown(method="no rows")
    for with_these, ask in (halves, halves[::-1]):
        model = train.on(np.concatenate([fitted, with_these]))
        right += int(train.right(model, ask).sum())
        accuracy = Estimate.rate(int(train.right(model, asked).sum()), asked.size)
    clean = train.on(fitted)
    return Proof(
        Estimate.rate(right, mine.size),
        Estimate.rate(int(train.right(clean, mine).sum()), mine.size),
        accuracy,
        Estimate.rate(int(train.right(clean, asked).sum()), asked.size),
    )
