# SPDX-License-Identifier: Apache-2.0
"""Rows go out to Label Studio and Argilla and their answers come back."""

from __future__ import annotations

import json

import polars as pl
import pytest

from datapipe.errors import DeclarationError, Malformed
from datapipe.integrations.label_tools import answers, tasks

ROWS = pl.DataFrame(
    {"row_id": [2**40, 2**40 + 1], "text": ["good", "bad"], "given": ["p", "p"],
     "suggested": [None, "n"], "score": [0.1, 0.9]}
)  # fmt: skip


def test_label_studio_round_trip(tmp_path):
    made = tasks(ROWS, "label-studio")
    assert "predictions" not in made[0]
    assert made[1]["predictions"][0]["score"] == 0.9
    ann = {"id": 4, "email": "a@b.c"}
    for task, choice in zip(made, ("p", "n"), strict=True):
        task["annotations"] = [
            {"completed_by": ann, "result": [{"value": {"choices": [choice]}}]},
            {"completed_by": 5, "was_cancelled": True, "result": []},
        ]  # fmt: skip
    path = tmp_path / "export.json"
    path.write_text(json.dumps(made))
    assert answers(path).rows() == [(2**40, "a@b.c", "p"), (2**40 + 1, "a@b.c", "n")]


def read_by_argilla(record):
    """What `Record.from_dict` of Argilla 2.8 makes of a record: each part by its keywords."""

    def suggestion(question_name, value, score=None, agent=None, type=None):  # noqa: A002 - theirs
        assert value is not None
        return question_name, value, score

    fields, metadata = record.get("fields", {}), record.get("metadata", {})
    assert all(isinstance(v, str) for v in fields.values())
    assert all(isinstance(v, str | int | float) for v in metadata.values())
    told = [suggestion(name, **v) for name, v in record.get("suggestions", {}).items()]
    assert record.get("responses", {}) == {}
    return record["id"], fields, told


def test_argilla_reads_what_is_exported(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(tasks(ROWS, "argilla")))
    made = [read_by_argilla(r) for r in json.loads(path.read_text())]
    assert made == [
        (str(2**40), {"text": "good"}, []),
        (str(2**40 + 1), {"text": "bad"}, [("label", "n", 0.9)]),
    ]


def test_argilla_answers_come_back_in_each_of_its_forms(tmp_path):
    made = tasks(ROWS, "argilla")
    path = tmp_path / "export.jsonl"
    made[0]["responses"] = [  # of the server, and of version 1
        {"user_id": "u1", "status": "submitted", "values": {"label": {"value": "n"}}},
        {"user_id": "u2", "status": "discarded", "values": {"label": {"value": "p"}}},
    ]
    made[1]["responses"] = {"label": [{"user_id": "u3", "value": "p"}]}  # records.to_json
    path.write_text("\n".join(json.dumps(m) for m in made))
    assert answers(path).rows() == [(2**40, "u1", "n"), (2**40 + 1, "u3", "p")]
    flat = [  # records.to_list(flatten=True)
        {"id": str(2**40), "text": "good", "label.responses": ["n", "p", "p"],
         "label.responses.users": ["u1", "u2", "u3"],
         "label.responses.status": ["submitted", "draft", "discarded"]},
        {"id": str(2**40 + 1), "text": "bad", "label.responses": None,
         "label.responses.users": None, "label.responses.status": None},
    ]  # fmt: skip
    path.write_text(json.dumps(flat))
    assert answers(path).rows() == [(2**40, "u1", "n")]


def test_other_files_and_tools_are_refused(tmp_path):
    path = tmp_path / "odd.json"
    for text in ("{", '[{"a": 1}]', '[{"annotations": [{"result": 3}], "data": {}}]', "[1]"):
        path.write_text(text)
        with pytest.raises(Malformed, match="no export"):
            answers(path)
    with pytest.raises(DeclarationError, match="no tool"):
        tasks(ROWS, "excel")
    with pytest.raises(DeclarationError, match="row_id"):
        tasks(ROWS.drop("row_id"), "argilla")
