# SPDX-License-Identifier: Apache-2.0
"""Questions that name their rows, asked about those rows alone.

A view over rows answers for all of them, and the engine cannot push `row_id in (...)` through it to
the blocks in which a row is found. So where a question says which rows of a view it is about, the
view's name is replaced by the macro that looks at nothing else. The conditions stay as they are, so
that the answer is the same; whatever is not understood is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datapipe.lineage.duck import duckdb

VIEWS = ("dropped_rows", "row_history", "model_rows")
"""Views that have a macro `NAME_of(ids)`."""
LONGEST = 1 << 18
"""Longer questions, in characters, name so many rows that reading them costs as much as a scan."""
GIVEN = "datapipe_rows_{}"
"""Name of the parameter that holds the rows of the view that stands at this byte."""
_JOINS = ("INNER", "LEFT", "RIGHT", "OUTER", "FULL")
"""Joins that give the same with fewer rows on one side, when a condition refuses the others."""
_BITS = {"ubigint": 64, "bigint": 63}
_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "<<": lambda a, b: a << min(b, 64),
    "|": lambda a, b: a | b,
    "+": lambda a, b: a + b,
}
_WHERE_IT_STOOD = ("query_location", "query_location_length", "named_param_map")

Node = dict[str, Any]


@dataclass(frozen=True)
class _Named:
    """A view of a question, the condition that names its rows, the rows and their parameter."""

    table: Node
    condition: Node
    rows: list[int]
    given: str


def narrowed(
    connection: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, object]
) -> tuple[str, dict[str, object]]:
    """A question in which every view whose rows it names is a look at those rows alone.

    Args:
        connection: Reads the question; nothing of it is run.
        query: One question.
        values: Values of its `$name` parameters.

    Returns:
        The question and its values, as given where there is nothing to gain.

    Example:
        >>> with duckdb.connect() as connection:
        ...     query, values = narrowed(connection, "from dropped_rows where row_id in (7, 8)", {})
        >>> query, values["datapipe_rows_5"]
        ('from dropped_rows_of($datapipe_rows_5) as dropped_rows where true', [7, 8])
    """
    asked = dict(values)
    lowered = query.lower()
    telling = "row_id" in lowered and any(view in lowered for view in VIEWS)
    if not telling or len(query) > LONGEST:
        return query, asked
    try:
        tree = _read(connection, query)
        nodes = list(_nodes(tree))
        found = [one for node in nodes for one in _named(node, values)]
        if not found or any(view in _ctes(nodes) for view in VIEWS):
            return query, asked
        before = _parameters(nodes)
        text = _edited(query.encode(), found).decode()
        for one in found:
            _replace(one, *_parts(connection, one))
        if _bare(_read(connection, text)) != _bare(tree):
            return query, asked  # quotes, schemas or comments stand where they are rarely found
    except (duckdb.Error, RecursionError):  # no SELECT, or nested too deeply to look at
        return query, asked
    spent = before - _parameters(_nodes(tree))  # DuckDB refuses values that it has no use for
    kept = {name: value for name, value in asked.items() if name not in spent}
    return text, kept | {one.given: one.rows for one in found}


def _read(connection: duckdb.DuckDBPyConnection, query: str) -> Node:
    """The tree of a question; that of anything but a SELECT is empty."""
    (line,) = connection.execute("select json_serialize_sql($q::varchar)", {"q": query}).fetchall()
    read: Node = json.loads(line[0])
    found: Node = read["statements"][0]["node"] if not read.get("error", True) else {}
    return found


def _parts(connection: duckdb.DuckDBPyConnection, one: _Named) -> tuple[Node, Node]:
    """How the look at a view's rows, and a condition that always holds, are read."""
    quoted = (one.table["alias"] or one.table["table_name"]).replace('"', '""')
    look = f"{one.table['table_name']}_of(${one.given})"
    tree = _read(connection, f'from {look} as "{quoted}" where true')
    return tree["from_table"], tree["where_clause"]


def _replace(one: _Named, look: Node, holds: Node) -> None:
    for old, new in ((one.table, look), (one.condition, holds)):
        old.clear()
        old.update(new)


def _edited(text: bytes, found: Sequence[_Named]) -> bytes:
    """The question with each view and condition replaced where the parser says that they stand."""
    edits: set[tuple[int, int, bytes]] = set()  # the tree tells some parts of a question twice
    for one in found:
        start, name = one.table["query_location"], one.table["table_name"].encode()
        alias = b"" if one.table["alias"] else b" as " + name
        edits.add((start, start + len(name), name + f"_of(${one.given})".encode() + alias))
        edits.add((*_span(one.condition), b"true"))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _span(condition: Node) -> tuple[int, int]:
    """The first byte of a condition and the last; with too few, the result reads otherwise."""
    stood = [
        (n["query_location"], n["query_location_length"])
        for n in _nodes(condition)
        if n.get("query_location_length")
    ]
    return min(at for at, _ in stood), max(at + length for at, length in stood)


def _bare(tree: Any) -> Any:
    """A tree without where its parts stood."""
    if isinstance(tree, dict):
        return {k: _bare(v) for k, v in tree.items() if k not in _WHERE_IT_STOOD}
    return [_bare(part) for part in tree] if isinstance(tree, list) else tree


def _nodes(tree: Any) -> Iterator[Node]:
    """Every node of a parsed question."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        parts = part
        if isinstance(part, dict):
            yield part
            parts = part.values()
        waiting.extend([one for one in parts if isinstance(one, (dict, list))])  # few of many are


def _parameters(nodes: Iterable[Node]) -> set[str]:
    """Names of the values that a question uses."""
    return {node["identifier"] for node in nodes if node.get("type") == "VALUE_PARAMETER"}


def _ctes(nodes: Iterable[Node]) -> set[str]:
    """Names of the question's own, anywhere in it."""
    held = [node["cte_map"]["map"] for node in nodes if node.get("cte_map")]
    return {one["key"].lower() for ctes in held for one in ctes}


def _named(node: Node, values: Mapping[str, object]) -> Iterator[_Named]:
    """Views of one SELECT whose rows its conditions name."""
    if node.get("type") != "SELECT_NODE" or not node.get("where_clause"):
        return
    tables = list(_tables(node.get("from_table") or {}))
    names = [(table["alias"] or table["table_name"]).lower() for table in tables]
    for table, name in zip(tables, names, strict=True):
        if table["table_name"].lower() not in VIEWS or names.count(name) > 1:
            continue
        if table["sample"] or table["column_name_alias"] or table["at_clause"]:
            continue
        known = [[name, "row_id"], *([["row_id"]] if len(tables) == 1 else [])]
        for condition in _conditions(node["where_clause"]):
            rows = _rows(condition, known, values)
            if rows is not None:
                yield _Named(table, condition, rows, GIVEN.format(table["query_location"]))
                break


def _tables(part: Node) -> Iterator[Node]:
    """Tables of a FROM; those of an unusual join count as one that nobody knows."""
    if part.get("type") == "JOIN":
        plain = part["ref_type"] in ("REGULAR", "CROSS") and part["join_type"] in _JOINS
        for side in (part["left"], part["right"]) if plain else ():
            yield from _tables(side)
        if plain:
            return
    if part.get("type") == "BASE_TABLE":
        yield part
    else:
        yield {"table_name": "", "alias": part.get("alias", ""), "type": part.get("type")}


def _conditions(clause: Node) -> Iterator[Node]:
    """Conditions that must all hold."""
    if clause["type"] == "CONJUNCTION_AND":
        for part in clause["children"]:
            yield from _conditions(part)
    else:
        yield clause


def _rows(
    condition: Node, known: Sequence[list[str]], values: Mapping[str, object]
) -> list[int] | None:
    """The rows that a condition asks for, None where it is another condition."""
    if condition["type"] == "COMPARE_IN":
        column, *asked = condition["children"]
    elif condition["type"] == "COMPARE_EQUAL":
        column, *asked = condition["left"], condition["right"]
        column, asked = (column, asked) if _is_column(column) else (asked[0], [column])
    elif condition.get("function_name") in ("contains", "list_contains", "list_has"):
        parts = [argument["expression"] for argument in condition["arguments"]]
        if len(parts) != 2:
            return None  # a mistake, which the engine tells better
        listed, column = parts
        given = _given(listed, values)
        if not isinstance(given, list) or not all(type(row) is int for row in given):
            return None
        return _in_range(given) if _is_column(column, known) else None
    else:
        return None
    if not _is_column(column, known):
        return None
    return _in_range([_value(one, values) for one in asked])


def _is_column(node: Node, known: Sequence[list[str]] | None = None) -> bool:
    if node["type"] != "COLUMN_REF":
        return False
    return known is None or [name.lower() for name in node["column_names"]] in known


def _in_range(rows: list[Any]) -> list[int] | None:
    return rows if all(row is not None and 0 <= row < 1 << 64 for row in rows) else None


def _given(node: Node, values: Mapping[str, object]) -> object:
    return values.get(node["identifier"]) if node["type"] == "VALUE_PARAMETER" else None


def _value(node: Node, values: Mapping[str, object]) -> int | None:
    """A whole number that stands in the question or was given with it; None for anything else."""
    if node["type"] == "VALUE_CONSTANT":
        literal = node.get("literal") or {}
        return int(literal["text"]) if literal.get("kind") == "INTEGER" else None
    if node["type"] == "VALUE_PARAMETER":
        given = _given(node, values)
        return given if type(given) is int else None
    if node["type"] == "OPERATOR_CAST":
        bits = _BITS.get(node["type_expr"].get("type_name", "").lower(), 0)
        value = _value(node["child"], values)
        return value if value is not None and 0 <= value < 1 << bits else None
    combine = _OPERATORS.get(node.get("function_name", "")) if node.get("is_operator") else None
    parts = [argument["expression"] for argument in node.get("arguments", ())]
    shifts = node.get("function_name") == "<<"
    if combine is None or len(parts) != 2 or (shifts and parts[0]["type"] != "OPERATOR_CAST"):
        return None  # a shift of a plain number is one of 32 bits
    first, second = (_value(part, values) for part in parts)
    if first is None or second is None or second < 0:
        return None
    return combine(first, second)
