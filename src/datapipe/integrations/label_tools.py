# SPDX-License-Identifier: Apache-2.0
"""Rows to and from labelling tools: Label Studio tasks and Argilla records, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import polars as pl

from datapipe.errors import DeclarationError, Malformed

Tool = Literal["label-studio", "argilla"]
TOOLS = ("label-studio", "argilla")
QUESTION = "label"
"""Name of the question in both tools."""
UNSAID = ("discarded", "draft")
MOST_BYTES = 2**30


def tasks(frame: pl.DataFrame, tool: Tool) -> list[dict[str, Any]]:
    """Rows as tasks of a labelling tool, the suggested label as a prediction.

    Args:
        frame: Rows with `row_id` and, where known, `given`, `suggested` and `score`; every other
            column is shown to the annotator.
        tool: `label-studio` or `argilla`.

    Returns:
        One JSON object a row.

    Raises:
        DeclarationError: There is no such tool, or the rows have no `row_id`.

    Example:
        >>> rows = pl.DataFrame({"row_id": [7], "given": ["a"], "suggested": ["b"], "score": [0.9]})
        >>> tasks(rows, "label-studio")[0]["predictions"][0]["result"][0]["value"]
        {'choices': ['b']}
        >>> tasks(rows, "argilla")[0]["suggestions"]["label"]["value"]
        'b'
    """
    if tool not in TOOLS:
        raise DeclarationError(f"there is no tool {tool!r}", hint=f"use one of {', '.join(TOOLS)}")
    if "row_id" not in frame.columns:
        raise DeclarationError("the rows have no column 'row_id'", hint="give rows of `labels`")
    make = _studio_task if tool == "label-studio" else _argilla_record
    return [make(row) for row in frame.iter_rows(named=True)]


def _studio_task(row: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"data": {k: v for k, v in row.items() if v is not None}}
    if row.get("suggested") is not None:
        result = {
            "from_name": QUESTION,
            "to_name": "text",
            "type": "choices",
            "value": {"choices": [str(row["suggested"])]},
        }
        score = float(row.get("score") or 0.0)
        made["predictions"] = [{"model_version": "datapipe", "score": score, "result": [result]}]
    return made


def _argilla_record(row: dict[str, Any]) -> dict[str, Any]:
    """What `dataset.records.from_json` of Argilla 2 reads: suggestions by name of the question."""
    own = ("row_id", "given", "suggested", "score")
    made: dict[str, Any] = {
        "id": str(row["row_id"]),
        "fields": {k: str(v) for k, v in row.items() if k not in own and v is not None},
        "metadata": {k: row[k] for k in own if row.get(k) is not None},
    }
    if row.get("suggested") is not None:
        score = float(row.get("score") or 0.0)
        told = {"value": str(row["suggested"]), "score": score, "agent": "datapipe"}
        made["suggestions"] = {QUESTION: told}
    return made


def answers(path: Path) -> pl.DataFrame:
    """What annotators said in an export of Label Studio (JSON) or Argilla (JSON or JSONL).

    Of Argilla 2, `records.to_json` keeps drafts and discarded answers without telling them apart;
    `records.to_list(flatten=True)` tells them, and they are left out.

    Args:
        path: The export.

    Returns:
        Columns `row_id` (int64), `annotator` and `label`: one line an answer, cancelled and
        discarded ones left out.

    Raises:
        Malformed: The file is no such export.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.json"
        >>> _ = file.write_text('[{"data": {"row_id": 7}, "annotations": [{"completed_by": 3,'
        ...     '"result": [{"value": {"choices": ["b"]}}]}]}]')
        >>> answers(file).rows()
        [(7, '3', 'b')]
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _odd(path)
        text = path.read_text("utf-8")
        whole = text.lstrip().startswith("[")
        held = (
            json.loads(text) if whole else [json.loads(x) for x in text.splitlines() if x.strip()]
        )
        lines = [line for task in held for line in _said(task)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _odd(path) from error
    schema = {"row_id": pl.Int64, "annotator": pl.String, "label": pl.String}
    return pl.DataFrame(lines, schema=schema, orient="row")


def _odd(path: Path) -> Malformed:
    return Malformed(
        f"{path.name} is no export of Label Studio or Argilla",
        hint="export the tasks with their annotations as JSON",
    )


def _said(task: dict[str, Any]) -> list[tuple[int, str, str]]:
    if "annotations" in task:
        row_id = int(task["data"]["row_id"])
        done = [a for a in task["annotations"] if not a.get("was_cancelled")]
        return [
            (row_id, _who(a.get("completed_by")), str(result["value"]["choices"][0]))
            for a in done
            for result in a["result"][:1]
        ]
    row_id = int(task["id"])
    flat = f"{QUESTION}.responses"
    if flat in task:
        said, people = task[flat] or [], task.get(f"{flat}.users") or []
        status = task.get(f"{flat}.status") or [None] * len(said)
        held = zip(people, said, status, strict=True)
        return [(row_id, str(p), str(v)) for p, v, s in held if s not in UNSAID]
    told = task.get("responses") or []
    if isinstance(told, dict):  # question name to answers, as a data set of Argilla 2 gives them
        told = [
            {"user_id": r.get("user_id"), "values": {QUESTION: r}, "status": r.get("status")}
            for r in told.get(QUESTION, [])
        ]
    return [
        (row_id, _who(r.get("user_id")), str(r["values"][QUESTION]["value"]))
        for r in told
        if r.get("status") not in UNSAID
    ]


def _who(told: Any) -> str:
    return str(told.get("email") or told.get("id")) if isinstance(told, dict) else str(told)
