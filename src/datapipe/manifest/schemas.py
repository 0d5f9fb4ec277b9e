# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas of our predicates and the tables of their pages, made from the types.

`python -m datapipe.manifest.schemas DIR` writes the schemas to a folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datapipe.manifest.predicates import PREDICATES
from datapipe.manifest.records import schema_of


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schemas of all predicates, made from their types.

    Returns:
        Short name to a JSON Schema (2020-12) of the predicate.

    Example:
        >>> schemas()["run"]["required"]
        ['runId', 'pipeline', 'seed', 'verdict']
    """
    return {
        name: {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"{cls.uri}/schema.json",
            "title": f"{name}.v1",
            **schema_of(cls),
        }
        for name, cls in PREDICATES.items()
    }


def write_schemas(folder: str | Path) -> tuple[Path, ...]:
    """Write the schemas, one file a predicate.

    Args:
        folder: Where to; made when missing.

    Returns:
        The files written.

    Example:
        >>> import tempfile
        >>> [path.name for path in write_schemas(tempfile.mkdtemp())][:2]
        ['dataset.v1.json', 'step.v1.json']
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, schema in schemas().items():
        path = target / f"{name}.v1.json"
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return tuple(written)


def field_table(name: str) -> str:
    """The table of a predicate's fields for its page, made from the type.

    Args:
        name: The short name of a predicate.

    Returns:
        A Markdown table with a final newline.

    Example:
        >>> field_table("erasure").splitlines()[2][:26]
        '| `requestId` | string | y'
    """
    schema = schemas()[name]
    rows = ["| Field | Type | Required | Meaning |", "|---|---|---|---|"]
    for field_name, inner in schema["properties"].items():
        required = "yes" if field_name in schema["required"] else "no"
        meaning = inner["description"]
        rows.append(f"| `{field_name}` | {_type_words(inner)} | {required} | {meaning} |")
    return "\n".join(rows) + "\n"


def _type_words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return _type_words(schema["anyOf"][0])
    if "enum" in schema:
        return ", ".join(f"`{item}`" for item in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type_words(schema['items'])}"
    return "sha256" if schema.get("pattern") == "^[0-9a-f]{64}$" else str(schema.get("type", "any"))


if __name__ == "__main__":
    for schema_file in write_schemas(sys.argv[1] if len(sys.argv) > 1 else "manifests/schemas"):
        sys.stdout.write(f"{schema_file}\n")
