# SPDX-License-Identifier: Apache-2.0
"""why and trace: one row, one object, everything about it."""

from __future__ import annotations

import json

import pytest

from datapipe.errors import DeclarationError
from datapipe.lineage.store import Lineage


def test_a_dropped_row_knows_why_and_from_which_file(filled: Lineage):
    answer = filled.why("1:4")
    assert answer["dropped"] == [
        {"run_id": "r1", "step_id": "r1/1", "stage": "dedup.exact", "reason": "duplicate"}
    ]
    assert answer["file"] == {"path": "one.csv", "row": 4}
    assert answer["source"]["licence"] == "CC0-1.0"
    assert answer["models"] == answer["exports"] == []
    assert filled.why(1 << 40 | 4) == filled.why(str(1 << 40 | 4)) == answer
    assert json.loads(json.dumps(answer)) == answer


def test_a_row_knows_the_models_it_reached(filled: Lineage):
    kept, held = filled.why("1:7"), filled.why("1:9")
    assert [m["name"] for m in kept["models"]] == ["plain"]
    assert [e["name"] for e in kept["exports"]] == ["int8"]
    assert kept["file"] == {"path": "two.csv", "row": 1}
    assert [(h["event"], h["score"]) for h in kept["history"]] == [("flagged", 0.9)]
    assert held["models"] == held["dropped"] == []
    assert filled.why("1:5")["labels"][0]["after"] == "2"


@pytest.mark.parametrize("row", ["1:10", "2:0", "0:1", "abc", "1:", ":1", "1:2:3", "-1", 7, 2**64])
def test_a_row_that_is_not_there(filled: Lineage, row):
    with pytest.raises(DeclarationError) as caught:
        filled.why(row)
    assert caught.value.hint


@pytest.mark.parametrize("cut", [8, 20, 64, 71])
def test_a_model_leads_back_to_its_sources(filled: Lineage, cut):
    model = filled.sql("select model_id from models").item()
    asked = model.removeprefix("sha256:")[:cut] if cut < 71 else model
    answer = filled.trace(asked)
    assert (answer["digest"], answer["kind"], answer["name"]) == (model, "model", "plain")
    assert [s["stage"] for s in answer["steps"]] == ["dedup.exact"]
    assert answer["steps"][0]["params"] == {"b": 1}
    assert [(s["name"], s["rows"]) for s in answer["sources"]] == [("reviews", 7)]
    assert [m["name"] for m in answer["made"]] == ["int8"]
    assert json.loads(json.dumps(answer)) == answer


def test_every_kind_of_object_is_traced(filled: Lineage):
    rows = filled.trace(filled.sql("select digest from datasets").item())
    assert (rows["kind"], rows["sources"][0]["rows"]) == ("dataset", 8)
    assert {m["kind"] for m in rows["made"]} == {"model", "export"}
    export = filled.trace(filled.sql("select export_id from exports").item())
    assert [s["name"] for s in export["sources"]] == ["reviews"]
    source = filled.trace("a" * 64)
    assert source["kind"] == "source"
    assert {m["kind"] for m in source["made"]} == {"dataset", "model", "export"}


def test_a_source_stands_once_with_the_newest_that_is_known_of_it(filled: Lineage):
    dataset, model = filled.sql("select dataset, model_id from models").row(0)
    source = {"run_id": "r1", "source_no": 1, "name": "reviews", "rows": 10}
    filled.append([("sources", {**source, "digest": "sha256:" + "a" * 64, "trust": "verified"})])
    for digest in (dataset, model):
        assert [s["trust"] for s in filled.trace(digest)["sources"]] == ["verified"]


@pytest.mark.parametrize(
    ("digest", "says"),
    [("abc", "too short"), ("f" * 12, "no object"), ("c" * 10, "2 objects")],
)
def test_what_names_no_single_object(filled: Lineage, digest, says):
    named = [("datasets", {"digest": "sha256:" + "c" * 63 + end}) for end in "01"]
    filled.append(named)
    with pytest.raises(DeclarationError, match=says):
        filled.trace(digest)
