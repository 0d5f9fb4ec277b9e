# SPDX-License-Identifier: Apache-2.0
"""Questions to a view about a few rows are asked of its macro, which finds them without a scan.

DuckDB cannot push a filter on `row_id` below the expansion of blocks, so `dropped_rows`,
`row_history` and `model_rows` look at every row. What follows `from` is exchanged for the macro of
the same columns; the filter stays, and so does the answer. A question of any other form is left as
it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

VIEWS = ("dropped_rows", "row_history", "model_rows")
"""Views with a macro `…_of(ids)`."""

_MAY = re.compile(rf"\b({'|'.join(VIEWS)})\b.*\brow_id\b", re.IGNORECASE | re.DOTALL)
_MANY = re.compile(r"\brow_id\s+in\s*\(\s*(\d+(?:\s*,\s*\d+){15,})\s*\)", re.IGNORECASE)
"""A long list of ids, which costs DuckDB more to read as text than as one value."""
_WHOLE = frozenset(["tinyint", "smallint", "integer", "int", "bigint", "hugeint", "ubigint"])
_IDS = range(2**64)


def narrowed(
    connection: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, object]
) -> tuple[str, Mapping[str, object]]:
    """The question that gives the same rows without a look at all the others.

    Args:
        connection: Any; it only reads the question.
        query: One statement.
        values: Values of its `$name` parameters.

    Returns:
        The question to ask and its values; the same ones where nothing can be gained.

    Example:
        >>> with duckdb.connect() as connection:
        ...     narrowed(connection, "from model_rows where row_id in (1, $b)", {"b": 2})[0]
        ...     narrowed(connection, "from model_rows where ordinal < 5", {})[0]
        'from model_rows_of([1, 2]) as model_rows where row_id in (1, $b)'
        'from model_rows where ordinal < 5'
    """
    if not _MAY.search(query):
        return query, values
    for short, lists in (_shortened(query), (query, {})):
        both = {**values, **lists}
        nodes = _read(connection, short)
        found = [part for node in nodes if (part := _part(node, both)) is not None]
        named = [n.get("identifier") for n in nodes if n.get("type") == "VALUE_PARAMETER"]
        used = [f"${name}" for name in lists if named.count(name) == 1 and name not in values]
        at = [text for _, _, text in found]
        if len(used) < len(lists) or not all(any(f"_of({u})" in t for t in at) for u in used):
            continue  # a list stood within a text, or in a condition of another kind
        if any(n.get("key") in VIEWS for n in nodes):  # a WITH of that name
            return query, values
        raw = short.encode()
        for start, end, text in sorted(found, reverse=True):
            raw = raw[:start] + text.encode() + raw[end:]
        return raw.decode(), both
    return query, values


def _shortened(query: str) -> tuple[str, dict[str, list[int]]]:
    """The question with a parameter for each long list of ids, and those lists."""
    lists: dict[str, list[int]] = {}

    def name(match: re.Match[str]) -> str:
        numbers = [int(n) for n in match[1].split(",")]
        lists[f"row_ids_{len(lists)}"] = [n for n in numbers if n in _IDS]  # others name no row
        return f"row_id in $row_ids_{len(lists) - 1}"

    return _MANY.sub(name, query), lists


def _read(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """All nodes of a question's tree; none where DuckDB does not give one."""
    told = connection.execute("select json_serialize_sql($1::varchar)", [query]).fetchall()[0][0]
    form = json.loads(told)
    return [] if form.get("error") else list(_nodes(form))


def _nodes(form: Any) -> Iterator[dict[str, Any]]:
    if isinstance(form, dict):
        yield form
    for inner in form.values() if isinstance(form, dict) else form:
        if isinstance(inner, dict | list):
            yield from _nodes(inner)


def _part(node: dict[str, Any], values: Mapping[str, object]) -> tuple[int, int, str] | None:
    """Where a question names such a view, from byte to byte, and what is to stand there."""
    table = node.get("from_table") or {}
    if node.get("type") != "SELECT_NODE" or table.get("type") != "BASE_TABLE":
        return None
    view = table["table_name"].lower()
    plain = not (table["sample"] or table["column_name_alias"] or table["at_clause"])
    if view not in VIEWS or table["schema_name"] or table["catalog_name"] or not plain:
        return None
    alias = table["alias"] or view
    for condition in _all_of(node["where_clause"]):
        ids = _asked(condition, (["row_id"], [alias.lower(), "row_id"]), values)
        if ids is not None:
            start = table["query_location"]
            quoted = '"' + alias.replace('"', '""') + '"' if table["alias"] else alias
            return start, start + table["query_location_length"], f"{view}_of({ids}) as {quoted}"
    return None


def _all_of(condition: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Conditions that must hold together."""
    if condition is None:
        return []
    if condition["type"] != "CONJUNCTION_AND":
        return [condition]
    return [one for part in condition["children"] for one in _all_of(part)]


def _asked(
    condition: dict[str, Any], names: tuple[list[str], ...], values: Mapping[str, object]
) -> str | None:
    """The ids that a condition lets through, as SQL; None when it does not name them."""
    kind = condition["type"]

    def is_row(part: dict[str, Any]) -> bool:
        words = [word.lower() for word in part.get("column_names", ())]
        return part["type"] == "COLUMN_REF" and words in names

    if kind == "COMPARE_IN" and is_row(condition["children"][0]):
        return _listed([_number(part, values) for part in condition["children"][1:]])
    if kind == "COMPARE_EQUAL":
        sides = condition["left"], condition["right"]
        for row, other in (sides, sides[::-1]):
            if is_row(row):
                return _listed([_number(other, values)])
    if kind == "FUNCTION" and condition["function_name"] in ("contains", "list_contains"):
        given, row = (a["expression"] for a in condition["arguments"])
        return _many(given, values) if is_row(row) else None
    if kind == "SUBQUERY" and condition["subquery_type"] == "ANY" and is_row(condition["child"]):
        node = condition["subquery"]["node"]
        told = node.get("select_list", [])
        simple = node["type"] == "SELECT_NODE" and node["from_table"]["type"] == "EMPTY"
        if condition["comparison_type"] == "COMPARE_EQUAL" and simple and not node["modifiers"]:
            unnested = [p for p in told if p.get("function_name") == "unnest"]
            if len(told) == len(unnested) == 1 and node["where_clause"] is None:
                return _many(unnested[0]["arguments"][0]["expression"], values)
    return None


def _listed(numbers: list[int | None]) -> str | None:
    known = [n for n in numbers if n is not None]
    if len(known) < len(numbers):
        return None
    return f"[{', '.join(str(n) for n in known if n in _IDS)}]"  # others name no row


def _many(part: dict[str, Any], values: Mapping[str, object]) -> str | None:
    """A list that is given as a parameter."""
    name = part["identifier"] if part["type"] == "VALUE_PARAMETER" else ""
    given = values.get(name)
    if not isinstance(given, list | tuple):
        return None
    return f"${name}" if all(type(n) is int and n in _IDS for n in given) else None


def _number(part: dict[str, Any], values: Mapping[str, object]) -> int | None:
    """A whole number that is written out, given, or made of such by shifts, sums and the like."""
    kind = part["type"]
    if kind == "VALUE_CONSTANT" and part["literal"]["kind"] == "INTEGER":
        return int(part["literal"]["text"])
    if kind == "VALUE_PARAMETER":
        given = values.get(part["identifier"])
        return given if type(given) is int else None
    if kind == "OPERATOR_CAST" and part["type_expr"]["type_name"].lower() in _WHOLE:
        return _number(part["child"], values)
    if kind == "FUNCTION" and part["is_operator"] and len(part["arguments"]) == 2:
        left, right = (_number(a["expression"], values) for a in part["arguments"])
        if left is not None and right is not None:
            return _combined(part["function_name"], left, right)
    return None


def _combined(sign: str, left: int, right: int) -> int | None:
    if sign == "<<" and right in range(64):
        return left << right
    return {"|": left | right, "+": left + right, "-": left - right}.get(sign)
