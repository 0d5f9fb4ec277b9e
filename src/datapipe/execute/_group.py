# SPDX-License-Identifier: Apache-2.0
"""A finished group of steps: what it was given, what it led to and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datapipe.core.dataset import Dataset
from datapipe.core.digest import digest_json
from datapipe.core.pipeline import PlannedStep
from datapipe.execute._clock import Clock
from datapipe.execute._record import Outcome
from datapipe.execute.columns import Edge


@dataclass(frozen=True, eq=False)
class GroupDone:
    """A finished group, ready to be written down.

    Args:
        steps: Its steps.
        keys: Their keys of reuse.
        outcomes: What each led to.
        before: The rows it was given; None for the group that read them.
        out: The rows after it, stored.
        clock: What it cost.
        origins: Ids of the earlier steps whose results were used; empty when it ran.
        columns: Which columns each step made its columns from, as far as its plan tells.
        given: How many rows the caller gave to the group; None where readers read them.

    Example:
        >>> GroupDone.__name__
        'GroupDone'
    """

    steps: Sequence[PlannedStep]
    keys: Sequence[str]
    outcomes: Sequence[Outcome]
    before: Dataset | None
    out: Dataset
    clock: Clock
    origins: Sequence[str] = ()
    columns: Sequence[Sequence[Edge]] = ()
    given: int | None = None

    @cached_property
    def shared(self) -> dict[str, Any]:
        """What is recorded as the result of each of its steps: what they led to together."""
        return {
            "group": digest_json(list(self.keys)),
            "dataset_out": self.out.digest,
            "sources": [s.to_json() for s in self.out.sources],
            "roles": self.out.roles.to_json(),
        }

    def counts(self) -> list[tuple[int, int]]:
        """Rows in and rows out of each step.

        Returns:
            A pair for each step; parallel branches see the same rows.
        """
        pairs: list[tuple[int, int]] = []
        rows = self.given if self.before is None else len(self.before)
        rows = sum(s.rows for s in self.out.sources) if rows is None else rows
        alone = len(self.steps) == 1 and self.steps[0].shape == "whole"
        aside = 0
        for i, (step, outcome) in enumerate(zip(self.steps, self.outcomes, strict=True)):
            if step.shape == "read":
                rows_in = self.out.sources[i].rows
                aside += outcome.rows_aside
            else:
                rows_in = rows - aside if step.shape == "row" else rows
                aside += outcome.rows_aside if step.shape == "row" else 0
            pairs.append((rows_in, len(self.out) if alone else rows_in - outcome.rows_aside))
        return pairs
