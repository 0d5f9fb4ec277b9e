# SPDX-License-Identifier: Apache-2.0
"""Our events against OpenLineage's own schemas and its own client."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from datapipe.integrations.openlineage import events

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")

SPEC = Path(__file__).with_name("openlineage")
CORE = "https://openlineage.io/spec/2-0-2/OpenLineage.json"


@pytest.fixture(scope="module")
def registry(root: Path):
    """Every schema under its id and under the address that facets give: nothing is fetched."""
    kept = referencing.Registry()
    for path in (*SPEC.glob("*.json"), root / "manifests" / "schemas" / "openlineage.v1.json"):
        form = json.loads(path.read_text())
        resource = referencing.Resource.from_contents(form)
        kept = kept.with_resource(form["$id"], resource)
    return kept


@pytest.fixture(scope="module")
def run_event(registry):
    """The core schema; against its top level a broken run event would pass for a job event."""
    schema = {"$ref": f"{CORE}#/$defs/RunEvent"}
    return jsonschema.Draft202012Validator(schema, registry=registry)


def facets(event):
    yield from event["run"]["facets"].items()
    yield from event["job"]["facets"].items()
    for dataset in (*event["inputs"], *event["outputs"]):
        for group in ("facets", "outputFacets", "inputFacets"):
            yield from dataset.get(group, {}).items()


def test_every_event_is_a_run_event(facts, run_event):
    told = events(facts)
    assert len(told) == 2 + 2 * len(facts["steps"])
    for event in told:
        assert [e.message for e in run_event.iter_errors(event)] == []


def test_every_facet_fits_the_schema_that_it_names(facts, registry):
    seen = set()
    for event in events(facts):
        for name, facet in facets(event):
            schema = jsonschema.Draft202012Validator(
                {"$ref": facet["_schemaURL"]}, registry=registry
            )
            assert [e.message for e in schema.iter_errors(facet)] == [], name
            seen.add(name)
    assert {
        "schema", "version", "columnLineage", "dataQualityAssertions", "outputStatistics",
        "parent", "processing_engine", "jobType",
        "datapipe_step", "datapipe_rows", "datapipe_source", "datapipe_signature",
    } == seen  # fmt: skip


def test_a_broken_event_is_noticed(facts, run_event):
    event = copy.deepcopy(events(facts)[0])
    del event["run"]
    assert list(run_event.iter_errors(event))


def test_columns_lead_back_to_where_they_come_from(facts):
    """Over the fused steps of reading and computing, to both files."""
    (found,) = [
        o["facets"]["columnLineage"]
        for e in events(facts)
        for o in e["outputs"]
        if "columnLineage" in o["facets"]
    ]

    def roots(fields):
        return {(f["field"], f["transformations"][0]["subtype"]) for f in fields}

    fields = {name: roots(f["inputFields"]) for name, f in found["fields"].items()}
    assert fields["text"] == {("text", "IDENTITY")}
    assert fields["share"] == {("share", "TRANSFORMATION"), ("stars", "TRANSFORMATION")}
    assert set(fields) == {"text", "stars", "share", "kept", "tags", "at", "column with spaces"}
    assert roots(found["dataset"]) == {("text", "FILTER")}
    assert len({f["name"] for f in found["fields"]["text"]["inputFields"]}) == 2


def test_rows_that_left_are_told_with_their_reasons(facts):
    told = [o["outputFacets"]["datapipe_rows"] for e in events(facts) for o in e["outputs"]
            if "outputFacets" in o]  # fmt: skip
    assert {r: n for t in told for r, n in t["setAside"].items()} == {"too short": 2}


def test_the_reference_client_takes_our_events(facts, tmp_path):
    client = pytest.importorskip("openlineage.client")
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.transport.file import FileConfig, FileTransport

    out = tmp_path / "events.json"
    sender = client.OpenLineageClient(
        transport=FileTransport(FileConfig(log_file_path=str(out), append=True))
    )
    told = events(facts)
    for event in told:
        sender.emit(
            RunEvent(
                eventTime=event["eventTime"],
                producer=event["producer"],
                eventType=RunState[event["eventType"]],
                run=Run(event["run"]["runId"]),
                job=Job(event["job"]["namespace"], event["job"]["name"]),
            )
        )
    assert [json.loads(x)["run"]["runId"] for x in out.read_text().splitlines()] == [
        e["run"]["runId"] for e in told
    ]
