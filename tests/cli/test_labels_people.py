# SPDX-License-Identifier: Apache-2.0
"""`labels annotators`: who answers at chance, as JSON and as a file."""

from __future__ import annotations

import json

import numpy as np
import polars as pl


def test_annotators_are_told_with_their_figures(datapipe, here):
    rng = np.random.default_rng(2)
    true = rng.integers(0, 3, 200)
    lines = []
    for who, skill in (("ann", 0.95), ("bob", 0.9), ("cy", 0.85), ("bot", 1 / 3)):
        said = np.where(rng.random(200) < skill, true, (true + rng.integers(1, 3, 200)) % 3)
        lines += [(q, who, y) for q, y in enumerate(said.tolist())]
    pl.DataFrame(lines, schema=["q", "who", "y"], orient="row").write_csv("a.csv")
    roles = ("--item", "q", "--annotator", "who", "--answer", "y")
    answer = datapipe("labels", "annotators", "a.csv", *roles, "-o", "p.parquet", "--json")
    assert answer.code == 0, answer.err
    people = {p["annotator"]: p for p in answer.json["annotators"]}
    assert [name for name, p in people.items() if p["at_chance"]] == ["bot"]
    assert people["ann"]["low"] < people["ann"]["skill"] < people["ann"]["high"]
    assert pl.read_parquet("p.parquet").height == 4
    kinds = {f["kind"] for f in answer.json["findings"]}
    assert {"labels.annotators", "labels.drift", "labels.agreement"} <= kinds
    assert datapipe("labels", "annotators", "a.csv", *roles).code == 0
    assert datapipe("labels", "annotators", "a.csv", *roles, "--scale", "ratio").code == 2


def test_rows_go_out_to_a_tool_and_its_answers_are_joined(datapipe, here):
    pl.DataFrame({"row_id": [1, 2], "text": ["a", "b"], "suggested": ["x", "y"]}).write_parquet(
        "r.parquet"
    )
    assert (
        datapipe("labels", "export", "r.parquet", "--to", "label-studio", "-o", "t.json").code == 0
    )
    tasks = json.loads((here / "t.json").read_text())
    for task in tasks:
        task["annotations"] = [
            {"completed_by": who, "result": [{"value": {"choices": ["x"]}}]} for who in (1, 2)
        ]
    (here / "e.json").write_text(json.dumps(tasks))
    answer = datapipe("labels", "import", "e.json", "-o", "said.parquet", "--json")
    assert answer.code == 0, answer.err
    assert len(answer.json["answers"]) == 4
    roles = ("--item", "row_id", "--annotator", "annotator", "--answer", "label")
    joined = datapipe("labels", "aggregate", "said.parquet", *roles, "--json")
    assert [i["label"] for i in joined.json["items"]] == ["x", "x"]
    assert datapipe("labels", "export", "r.parquet", "--to", "excel").code == 2
    (here / "bad.json").write_text("{")
    assert datapipe("labels", "import", "bad.json").code == 7
