# SPDX-License-Identifier: Apache-2.0
"""Everything known about one row: where from, what was thought of it, where it went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from datapipe.core.roles import ORDINAL_BITS
from datapipe.errors import DeclarationError
from datapipe.lineage.console import lines
from datapipe.lineage.duck import duckdb
from datapipe.lineage.kin import Kin
from datapipe.lineage.known import Known

SHOWN = 100

_LOOKS = {
    "row_drops": """select 'drop' as what, seq, null as step_id, reason, null as kind,
 null::double as score, null as action, null as "before", null as "after", null as changed_by""",
    "row_findings": """select 'finding' as what, seq, step_id, reason, kind, score, action,
 null as "before", null as "after", null as changed_by""",
    "label_changes": """select 'label' as what, seq, step_id, why as reason, null as kind,
 posterior as score, null as action, "before", "after", changed_by""",
    "model_held_out": """select 'held' as what, seq, step_id, null as reason, null as kind,
 null::double as score, null as action, model_id as "before", null as "after",
 null as changed_by""",
}
"""How each table that is sorted by rows tells of one row; those without rows are not asked."""


def row_number(row: int | str) -> tuple[int, int, int]:
    """A row's id, the number of its source and its place there.

    Args:
        row: The id, or `source:ordinal`.

    Returns:
        Row id, source number, ordinal.

    Raises:
        DeclarationError: It is neither.

    Example:
        >>> row_number("1:5"), row_number(1 << 40 | 5)
        ((1099511627781, 1, 5), (1099511627781, 1, 5))
    """
    source, colon, ordinal = str(row).strip().partition(":")
    digits = source.isdecimal() and (ordinal.isdecimal() if colon else not ordinal)
    number = 0
    if digits:
        number = int(source) << ORDINAL_BITS | int(ordinal) if colon else int(source)
    fits = digits and number < 2**64 and (not colon or int(ordinal) < 1 << ORDINAL_BITS)
    if not fits:
        raise DeclarationError(
            f"{row!r} names no row",
            code="DP-DECL-056",
            hint="give SOURCE:ORDINAL such as 1:1429, or a row_id as `datapipe sql` shows it",
        )
    return number, number >> ORDINAL_BITS, number & ((1 << ORDINAL_BITS) - 1)


def named(row_id: int) -> dict[str, int]:
    """A row by its id and by its place.

    Args:
        row_id: The id.

    Returns:
        `row_id source_no ordinal`.

    Example:
        >>> named(1 << 40 | 5)["ordinal"]
        5
    """
    _, source_no, ordinal = row_number(row_id)
    return {"row_id": row_id, "source_no": source_no, "ordinal": ordinal}


def why(
    connection: duckdb.DuckDBPyConnection, row: int | str, known: Known | None = None
) -> dict[str, Any]:
    """Everything known about one row.

    Args:
        connection: An opened index.
        row: The row's id, or `source:ordinal`.
        known: What the index says of steps and sources; None to read it now.

    Returns:
        `row_id source_no ordinal source file dropped history labels made_from made_into models
        exports`; of the rows that it was made into, the first hundred.

    Raises:
        DeclarationError: The store has no such row.

    Example:
        >>> from datapipe.lineage.load import make
        >>> with duckdb.connect() as connection:
        ...     make(connection)
        ...     _ = connection.execute(
        ...         "insert into sources (source_no, name, rows) values (1, 'reviews', 3)"
        ...     )
        ...     why(connection, "1:2")["source"]["name"]
        'reviews'
    """
    row_id, source_no, ordinal = row_number(row)
    known = known or Known.read(connection)
    source = known.sources.get(source_no)
    if source is None or (source["rows"] is not None and ordinal >= source["rows"]):
        raise _no_row(connection, row, source_no)
    marks: dict[str, list[dict[str, Any]]] = {}
    for mark in _marks(connection, row_id, known):
        if mark["what"] == "drop":
            mark["step_id"] = known.dropped_by.get(mark["seq"])
        marks.setdefault(mark["what"], []).append(mark)
    drops = marks.get("drop", [])
    kin = Kin.of(connection, row_id) if "row_edges" in known.tables else Kin()
    models = _models(known, source_no, kin.with_marks(row_id, marks))
    return {
        "row_id": row_id,
        "source_no": source_no,
        "ordinal": ordinal,
        "file": _file(source["files"], ordinal),
        "source": {name: value for name, value in source.items() if name != "files"},
        "dropped": [
            {name: step[name] for name in ("run_id", "step_id", "stage")} | {"reason": m["reason"]}
            for m, step in _at(known, drops)
        ],
        "history": _history(known, marks),
        "labels": _labels(known, marks.get("label", [])),
        "made_from": [named(row) for row in kin.parents],
        "made_into": [named(row) for row in kin.children[:SHOWN]],
        "models": models,
        "exports": _exports(known, {m["digest"] for m in models}),
    }


def _marks(
    connection: duckdb.DuckDBPyConnection, row_id: int, known: Known
) -> list[dict[str, Any]]:
    """Everything the index has on one row, by one look-up in each table."""
    looks = [
        f"{_LOOKS[name]} from {name} where row_id = $row" for name in known.tables if name in _LOOKS
    ]
    return lines(connection, " union all ".join(looks), row=row_id) if looks else []


def _at(
    known: Known, marks: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each mark with every step that stands for the one that made it, reused ones too."""
    for mark in marks:
        for step in known.steps.get(mark["step_id"], ()):
            yield mark, step


def _history(known: Known, marks: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    told: list[tuple[dict[str, Any], str, str, float | None]] = []
    for m, step in _at(known, marks.get("finding", [])):
        told.append((step, m["action"] or "flagged", m["reason"] or m["kind"], m["score"]))
    for m, step in _at(known, marks.get("label", [])):
        told.append((step, "relabelled", m["reason"], m["score"]))
    for m, step in _at(known, marks.get("drop", [])):
        told.append((step, "set aside", m["reason"], None))
    told.sort(
        key=lambda t: (t[0]["started_at"] or "~", t[0]["run_id"], t[0]["position"] or 0, t[1])
    )
    return [
        {"run_id": s["run_id"], "position": s["position"], "stage": s["stage"]}
        | {"event": event, "reason": reason, "score": score}
        for s, event, reason, score in told
    ]


def _labels(known: Known, marks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    both = sorted(_at(known, marks), key=lambda p: (p[1]["run_id"], p[1]["position"] or 0))
    return [
        {"run_id": step["run_id"], "stage": step["stage"]}
        | {"before": m["before"], "after": m["after"], "why": m["reason"]}
        | {"posterior": m["score"], "changed_by": m["changed_by"]}
        for m, step in both
    ]


def _models(known: Known, source_no: int, kin: Kin) -> list[dict[str, Any]]:
    """Models that saw a line which was made from the row."""
    found = {
        (m["model_id"], m["name"], m["run_id"])
        for m in known.models
        if source_no in (m["sources"] or ())
        and kin.reaches(m["held_set"], set(m["steps"] or ()), known.turns)
    }
    told = sorted(found, key=lambda line: tuple((part is None, part or "") for part in line))
    return [{"digest": d, "name": n, "run_id": r} for d, n, r in told]


def _exports(known: Known, models: set[str]) -> list[dict[str, Any]]:
    found = {
        (e["digest"], e["name"], e["run_id"])
        for e in known.exports
        if e["model"] in models or e["model_id"] in models
    }
    told = sorted(found, key=lambda line: tuple((part is None, part or "") for part in line))
    return [{"digest": d, "name": n, "run_id": r} for d, n, r in told]


def _file(files: list[tuple[str, int]], ordinal: int) -> Mapping[str, Any] | None:
    """The file of a source that holds a row, and which of its rows it is, from 0."""
    before = 0
    for path, rows in files:
        if ordinal < before + rows:
            return {"path": path, "row": ordinal - before}
        before += rows
    return None


def _no_row(
    connection: duckdb.DuckDBPyConnection, row: int | str, source_no: int
) -> DeclarationError:
    known = lines(
        connection,
        "select source_no, source, rows from source_facts where source_no = $source "
        "union all (select source_no, source, rows from source_facts where source_no <> $source "
        "order by source_no limit 5)",
        source=source_no,
    )
    told = "; ".join(f"source {k['source_no']} ({k['source']}) has {k['rows']} rows" for k in known)
    return DeclarationError(
        f"there is no row {row} in this store", code="DP-DECL-057", hint=told or "run a pipeline"
    )
