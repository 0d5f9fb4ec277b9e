# SPDX-License-Identifier: Apache-2.0
"""A row and the rows that were made from it: which of their lines reached a model.

The same count as the views `dataset_woven` and `model_woven`, for one row and without a scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datapipe.lineage.duck import duckdb

_PARENTS = """
select distinct made_from from row_edges where row_id = $row and made_from <> $row order by all
"""
_KIN = """
with kin as (
  select distinct row_id from row_edges where made_from = $row
  union
  select $row::ubigint
)
select 'edge' as what, e.row_id, e.step_id as id, e.made_from = e.row_id as own, e.lines
from row_edges e join kin using (row_id) where e.made_from in (e.row_id, $row)
union all
select 'drop', d.row_id, s.step_id, true, 0
from row_drops d join kin using (row_id) join row_drop_steps s using (seq)
union all
select 'held', h.row_id, h.seq::varchar, true, 0 from model_held_out h join kin using (row_id)
"""


@dataclass
class Line:
    """What is recorded of one row.

    Args:
        own: Step to how many of its lines came or went there.
        shared: Step to how many of its lines came or went that were made from the row asked for.
        drops: Steps that set it aside.
        held: Records of models that tell of it as held out.

    Example:
        >>> Line().drops
        []
    """

    own: dict[str, int] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)
    drops: list[str] = field(default_factory=list)
    held: set[int] = field(default_factory=set)

    def trains(
        self, held_set: int | None, steps: set[str], turns: Mapping[str, tuple[str, bool]]
    ) -> bool:
        """Whether a line of it was left and not held out.

        Args:
            held_set: The record that tells which rows the model held out; None for none.
            steps: The steps before its data set.
            turns: `Known.turns`.

        Returns:
            True when there was.

        Example:
            >>> Line(drops=["s"]).trains(9, {"s"}, {}), Line(drops=["s"]).trains(9, set(), {})
            (False, True)
        """
        taken = [turns.get(s, (s, False)) for s in self.drops if s in steps]
        if held_set in self.held or any(erased for _, erased in taken):
            return False
        lines = sum(n for step, n in self.own.items() if step in steps)
        return 1 - len({turn for turn, _ in taken}) + lines > 0


@dataclass
class Kin:
    """A row, and the rows made from it.

    Args:
        parents: Rows it was made from.
        lines: Row to what is recorded of it.
        row: The row's id.

    Example:
        >>> Kin().children
        []
    """

    parents: list[int] = field(default_factory=list)
    lines: dict[int, Line] = field(default_factory=dict)
    row: int = -1

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, row: int) -> Kin:
        """Read it from the index.

        Args:
            connection: An opened index.
            row: The row's id.

        Returns:
            The row and those made from it.

        Example:
            >>> from datapipe.lineage.load import make
            >>> with duckdb.connect() as connection:
            ...     make(connection)
            ...     Kin.of(connection, 7).lines
            {}
        """
        parents = [p for (p,) in connection.execute(_PARENTS, {"row": row}).fetchall()]
        kin = cls(parents, row=row)
        for what, row_id, name, own, lines in connection.execute(_KIN, {"row": row}).fetchall():
            line = kin.lines.setdefault(row_id, Line())
            if what == "drop":
                line.drops.append(name)
            elif what == "held":
                line.held.add(int(name))
            else:
                told = line.own if own else line.shared
                told[name] = told.get(name, 0) + lines
        return kin

    def with_marks(self, row: int, marks: Mapping[str, list[dict[str, Any]]]) -> Kin:
        """The same, with what was found of the row itself where nothing is joined or multiplied.

        Args:
            row: The row's id.
            marks: What the index has on it, by kind.

        Returns:
            Itself.

        Example:
            >>> Kin().with_marks(7, {"drop": [{"step_id": "s"}]}).lines[7].drops
            ['s']
        """
        self.row = row
        if row not in self.lines:
            drops = [m["step_id"] for m in marks.get("drop", []) if m["step_id"]]
            held = {m["seq"] for m in marks.get("held", [])}
            self.lines[row] = Line(drops=drops, held=held)
        return self

    @property
    def children(self) -> list[int]:
        """The rows made from it, by id.

        Example:
            >>> Kin(lines={7: Line(), 8: Line()}, row=7).children
            [8]
        """
        return sorted(row for row in self.lines if row != self.row)

    def reaches(
        self, held_set: int | None, steps: set[str], turns: Mapping[str, tuple[str, bool]]
    ) -> bool:
        """Whether a line that was made from the row trained a model.

        Args:
            held_set: The record that tells which rows the model held out; None for none.
            steps: The steps before its data set.
            turns: `Known.turns`.

        Returns:
            True when one did.

        Example:
            >>> Kin(lines={7: Line()}, row=7).reaches(None, {"s"}, {})
            True
        """
        return any(
            line.trains(held_set, steps, turns)
            and (row == self.row or sum(n for s, n in line.shared.items() if s in steps) > 0)
            for row, line in self.lines.items()
        )
