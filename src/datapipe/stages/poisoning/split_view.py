# SPDX-License-Identifier: Apache-2.0
"""`SplitView`: items that are no longer what a signed snapshot says they were."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.core.parameters import AnyPath, Paths, Range
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.manifest.keys import load_public_keys
from datapipe.stages.poisoning._snapshot import (
    DIGEST,
    UNLISTED,
    Compared,
    Snapshot,
    compared,
    day,
    moments,
    opened,
    taken_of,
)

MOST_NAMED = 20
MOST_SILENT = 0.05
"""The largest share of items without a time of which the others may still be called clean."""
KINDS = ("poisoning.split_view", "poisoning.front_run")


@dataclass(frozen=True)
class SplitView(Stage):
    """Holds every item against a signed snapshot, and doubts items that changed just before it.

    *Method:* the snapshot is a Parquet table that a trusted key signed: one line an item, by the
    same key as the role `id`, with the SHA-256 of the item's bytes in a column `sha256`, or with
    the items themselves. What another site serves under the same address to another reader has
    other bytes: exact, whatever the poison looks like. Whoever edits just before a snapshot is
    taken is in it before anybody can mend the edit: with a role `time`, rows that were made less
    than `hold_days` before it are told.
    *Assumes:* the snapshot was made from items that its signer looked at.
    *Choose it when:* a data set is a list of addresses, or came from a mirror.
    *Fails when:* items were bad when they were signed.
    *Cost:* one SHA-256 pass over the snapshot's file and over the items.

    Args:
        signed: Path of the snapshot, a Parquet file with its signature beside it.
        trusted: Paths of public keys (PEM) that may sign it.
        taken: Day of the snapshot, `YYYY-MM-DD`; empty reads it from its column `taken` (a day or
            moment an item), else from its attestation.
        hold_days: Days, >= 0, for which an item must have stood before the snapshot.
        on_finding: What is done with rows that changed, are not listed, or changed too late.

    Example:
        >>> from pathlib import Path
        >>> from datapipe.core.dataset import empty
        >>> [f.verdict for f in SplitView().run(empty(), Context(0, Path("."))).findings]
        ['not_evaluated', 'not_evaluated']

    References:
        Carlini et al., 2024, Poisoning web-scale training datasets is practical.
    """

    signed: AnyPath = ""
    trusted: Paths = ()
    taken: str = ""
    hold_days: Annotated[float, Range(0)] = 7.0
    on_finding: OnSuspect = "note"

    name: ClassVar[str] = "poisoning.split_view"
    version: ClassVar[str] = "3"
    raises_findings: ClassVar[tuple[str, ...]] = KINDS
    references: ClassVar[tuple[str, ...]] = (
        "Carlini et al., 2024, Poisoning web-scale training datasets is practical",
    )

    def check(self) -> list[str]:
        """Problems with the parameters.

        Returns:
            A sentence for each problem.

        Example:
            >>> SplitView(taken="yesterday").check()
            ["poisoning.split_view: taken='yesterday' is no day such as 2026-01-31"]
        """
        if wrong := super().check():
            return wrong
        if self.taken and day(self.taken) is None:
            wrong.append(f"{self.name}: taken={self.taken!r} is no day such as 2026-01-31")
        return wrong

    def cacheable(self) -> bool:
        """False: the snapshot and the keys lie outside of the data.

        Returns:
            False.

        Example:
            >>> SplitView().cacheable()
            False
        """
        return False

    def run(self, data: Dataset, context: Context) -> Yield:
        """Compare every item with what was signed.

        Args:
            data: Rows with the role `id`; with `time`, late edits are told, too.
            context: Not used.

        Returns:
            Findings `poisoning.split_view` and `poisoning.front_run`, a line for every row.

        Example:
            >>> from pathlib import Path
            >>> from datapipe.core.dataset import empty
            >>> SplitView().run(empty(), Context(0, Path("."))).findings[0].kind
            'poisoning.split_view'
        """
        snapshot = self._opened(data)
        if isinstance(snapshot, str):
            return self.not_evaluated(snapshot)
        return Yield(findings=(_changed(data, snapshot), self._late(data, snapshot)))

    def _opened(self, data: Dataset) -> Snapshot | str:
        """The snapshot, or why nothing can be held against it."""
        if not self.signed or not self.trusted:
            return "name the signed snapshot and the keys that you trust"
        if "id" not in data.roles:
            return "no column has the role id, which names the items"
        paths: tuple[str, ...] = tuple(self.trusted)  # type: ignore[arg-type]  # made so above
        keys = tuple(key for path in paths for key in load_public_keys(path))
        return opened(os.fspath(self.signed), keys, data.roles.one("id"))

    def _late(self, data: Dataset, snapshot: Snapshot) -> Finding:
        kind = KINDS[1]
        if "time" not in data.roles:
            return Finding.not_evaluated(
                kind, "no column has the role time, which says when an item was made"
            )
        one = day(self.taken) if self.taken else None
        taken = None if one else taken_of(data, snapshot)
        one = one or snapshot.taken
        if taken is None and one is not None:
            taken = pl.repeat(one.timestamp() * 1e6, len(data), dtype=pl.Float64, eager=True)
        if taken is None or not taken.is_not_null().any():
            return Finding.not_evaluated(
                kind,
                "neither its attestation nor a column 'taken' of it says when the snapshot was"
                " taken: add the column, or give SplitView its `taken`",
            )
        made = moments(data.values("time"))
        if made is None:
            return Finding.not_evaluated(kind, "the column with the role time holds no moments")
        days = (taken - made) / 86_400e6
        known = days.is_not_null()
        if not known.any():
            return Finding.not_evaluated(kind, "no row says when it was made")
        late = (days < self.hold_days).fill_null(value=False)
        n, hits = int(known.sum()), int(late.sum())
        says = (
            f"{hits} of {n} items were made less than {self.hold_days:g} days before the snapshot"
        )
        silent = len(data) - n
        found = Finding(
            kind,
            "suspect" if hits else "clean",
            Estimate.rate(hits, n),
            says,
            severity="medium" if hits else "info",
            columns=(data.roles.one("time"),),
            rows=scored_rows(
                data.row_ids,
                (-days).fill_null(-1e9),
                flagged=late,
                reason="changed too late before the snapshot to be mended",
            ),
            details={"taken": _first_day(taken), "hold_days": self.hold_days,
                     "after": int((days < 0).sum()), "without_time": silent},
            remedy="take these items from the snapshot before, or from a later one" if hits else "",
        )  # fmt: skip
        if hits or silent <= MOST_SILENT * len(data):
            return found
        return found.withdrawn(f"{silent} of {len(data)} items do not say when they were made", n=n)


def _first_day(taken: pl.Series) -> str:
    """The earliest day on which an item was looked at."""
    first = float(taken.drop_nulls().to_numpy().min())
    return datetime.fromtimestamp(first / 1e6, UTC).date().isoformat()


def _changed(data: Dataset, snapshot: Snapshot) -> Finding:
    kind = KINDS[0]
    made: Compared | str = compared(data, snapshot)
    if isinstance(made, str):
        return Finding.not_evaluated(kind, made)
    changed, unlisted = made.state.is_not_null(), made.state == UNLISTED
    differs = changed & ~unlisted
    hits, strange, n = int(differs.sum()), int(unlisted.sum()), len(made.state)
    says = f"every one of {n} items is what was signed"
    if hits or strange:
        says = f"{hits} of {n} items are not what was signed, {strange} are not in the snapshot"
    details: dict[str, Any] = {
        "signer": snapshot.signer,
        "listed": snapshot.items.height,
        "changed": hits,
        "unlisted": strange,
        "gone": made.gone,
        "by": DIGEST if made.by_digest else "columns",
        "columns": made.columns,
        "items": made.ids.filter(differs).cast(pl.String).head(MOST_NAMED).to_list(),
        "min_detectable": 1,
    }
    return Finding(
        kind,
        "fail" if hits else "suspect" if strange else "clean",
        Estimate.rate(int(changed.sum()), n),
        says,
        severity="high" if hits else "medium" if strange else "info",
        columns=(data.roles.one("id"), *made.columns),
        rows=scored_rows(
            data.row_ids,
            changed.cast(pl.Float64),
            flagged=changed,
            reason="is not what was signed",
        ).with_columns(reason=made.state.fill_null("")),
        details=details,
        remedy="get these items from the snapshot's signer; set on_finding='quarantine'"
        if hits or strange
        else "",
    )
