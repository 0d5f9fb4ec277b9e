# SPDX-License-Identifier: Apache-2.0
"""A run as OpenLineage events: one job a step, its inputs and outputs, columns, rows, signatures.

References:
    OpenLineage specification 2-0-2, https://openlineage.io/spec/2-0-2/OpenLineage.json
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from datapipe import __version__
from datapipe.integrations.facts import Facts, bare, moment

PRODUCER = f"https://datapipe.dev/{__version__}"
SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = "https://openlineage.io/spec/facets"
OWN_FACETS = "https://datapipe.dev/openlineage"
NAMESPACE = "datapipe"

_HOW: Mapping[str, tuple[str, str]] = {
    "copied": ("DIRECT", "IDENTITY"),
    "derived": ("DIRECT", "TRANSFORMATION"),
    "filtered": ("INDIRECT", "FILTER"),
}
_TYPES = {
    "schema": "1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet",
    "columnLineage": "1-2-0/ColumnLineageDatasetFacet.json#/$defs/ColumnLineageDatasetFacet",
    "dataQualityAssertions": "1-1-0/DataQualityAssertionsDatasetFacet.json"
    "#/$defs/DataQualityAssertionsDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet.json"
    "#/$defs/OutputStatisticsOutputDatasetFacet",
    "parent": "1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet",
}


def events(facts: Facts) -> list[dict[str, Any]]:
    """The events of one run: START and COMPLETE (or FAIL) of the run and of every step.

    Args:
        facts: What the store knows about the run.

    Returns:
        Run events in the order of their times, each a JSON value.

    Example:
        >>> from datetime import datetime
        >>> run = {"pipeline": "p", "started_at": datetime(2026, 1, 1), "environment": {}}
        >>> told = events(Facts("r1", {"run": [run], "status": [{"state": "running"}]}))
        >>> [(e["eventType"], e["job"]["name"]) for e in told]
        [('START', 'p')]
    """
    told = [_event(facts, "START", moment(facts.run["started_at"]), "")]
    for step in facts["steps"]:
        told += _step(facts, step)
    status = facts["status"][0]
    if status["state"] != "running":
        kind = {"finished": "COMPLETE", "abandoned": "ABORT"}.get(status["state"], "FAIL")
        told.append(_event(facts, kind, moment(status["ended_at"]), ""))
    return sorted(told, key=lambda e: (e["eventTime"], e["eventType"] != "START"))


def _event(facts: Facts, kind: str, at: str, step_id: str) -> dict[str, Any]:
    job = facts.run["pipeline"] if not step_id else f"{facts.run['pipeline']}.{step_id}"
    return {
        "eventType": kind,
        "eventTime": at,
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
        "run": {"runId": _uuid(facts.run_id), "facets": {"processing_engine": _engine(facts)}},
        "job": {"namespace": NAMESPACE, "name": job, "facets": {"jobType": _job_type("PIPELINE")}},
        "inputs": [],
        "outputs": [],
    }


def _step(facts: Facts, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """START and COMPLETE of one step, with what it read and wrote."""
    name = f"{facts.run['pipeline']}.{step['position']}.{step['stage']}"
    parent = {
        "run": {"runId": _uuid(facts.run_id)},
        "job": {"namespace": NAMESPACE, "name": facts.run["pipeline"]},
    }
    run = {
        "runId": _uuid(step["step_id"]),
        "facets": {"parent": _facet("parent", parent), "datapipe_step": _own_step(step)},
    }
    job = {"namespace": NAMESPACE, "name": name, "facets": {"jobType": _job_type("STEP")}}
    ended, seconds = step["recorded_at"], float(step["seconds"] or 0.0)
    for kind, at in (("START", ended - timedelta(seconds=seconds)), ("COMPLETE", ended)):
        yield {
            "eventType": kind,
            "eventTime": moment(at),
            "producer": PRODUCER,
            "schemaURL": SCHEMA,
            "run": run,
            "job": job,
            "inputs": list(_inputs(facts, step)),
            "outputs": list(_outputs(facts, step)) if kind == "COMPLETE" else [],
        }


def _inputs(facts: Facts, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if step["dataset_in"]:
        form = _dataset(facts, step["dataset_in"])
        found = _assertions(facts, step)
        if found:
            told = {"dataQualityAssertions": _facet("dataQualityAssertions", {"assertions": found})}
            form["inputFacets"] = told
        yield form
        return
    for source in facts["sources"]:
        local = "://" not in source["uri"] and not source["uri"].startswith("arrow:")
        place = str(Path(source["uri"]).absolute()) if local else source["uri"]
        version = {"datasetVersion": source["digest"]}
        own = {
            "origin": source["origin"] or None,
            "licence": source["licence"] or None,
            "consent": source["consent"] or None,
            "declaredSynthetic": source["synthetic"],
            "trust": source["trust"],
            "signer": source["signer"] or None,
        }
        facets = {"version": _facet("version", version), "datapipe_source": _own("Source", own)}
        yield {"namespace": "file" if local else NAMESPACE, "name": place, "facets": facets}


def _outputs(facts: Facts, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    made = [d for d in facts["datasets"] if d["step_id"] == step["step_id"]]
    for dataset in made:
        form = _dataset(facts, dataset["digest"])
        form["facets"] |= _columns(facts, step, form["facets"])
        size = {"rowCount": dataset["rows"], "size": dataset["bytes"], "fileCount": 1}
        reasons = [d for d in facts["dropped"] if d["step_id"] == step["step_id"]]
        rows = {
            "rowsIn": step["rows_in"],
            "rowsOut": step["rows_out"],
            "setAside": {d["reason"]: d["rows"] for d in reasons},
        }
        form["outputFacets"] = {
            "outputStatistics": _facet("outputStatistics", size),
            "datapipe_rows": _own("Rows", rows),
        }
        yield form
    for kind, key in (("models", "model_id"), ("exports", "export_id")):
        for artifact in facts[kind]:
            if artifact["step_id"] == step["step_id"]:
                version = _facet("version", {"datasetVersion": artifact[key]})
                name = f"{facts.run['pipeline']}/{artifact['name']}"
                yield {"namespace": NAMESPACE, "name": name, "facets": {"version": version}}


def _dataset(facts: Facts, digest: str) -> dict[str, Any]:
    """A stored data set: its name is its digest, so that the same rows are the same node."""
    line = next((d for d in facts["datasets"] if d["digest"] == digest), None)
    facets: dict[str, Any] = {"version": _facet("version", {"datasetVersion": digest})}
    if line is not None:
        fields = [{"name": n, "type": t} for n, t in (line["schema"] or {}).items()]
        facets["schema"] = _facet("schema", {"fields": fields})
    signed = [
        {"statement": a["digest"], "predicateType": a["predicate_type"], "keyids": a["keyids"]}
        for a in facts["attestations"]
        if any(bare(digest) in str(s) for s in a["subjects"] or [])
    ]
    if signed:
        facets["datapipe_signature"] = _own("Signature", {"statements": signed})
    return {"namespace": NAMESPACE, "name": digest, "facets": facets}


def _assertions(facts: Facts, step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a step found in the rows it was given; what could not be looked at is no success."""
    return [
        {
            "assertion": f["kind"],
            "success": f["verdict"] == "clean",
            "description": f["says"] or f["kind"],
            "actual": f"{f['verdict']}: {f['value']} [{f['low']}, {f['high']}], n = {f['n']}",
        }
        for f in facts["findings"]
        if f["step_id"] == step["step_id"]
    ]


def _columns(facts: Facts, step: Mapping[str, Any], facets: Mapping[str, Any]) -> dict[str, Any]:
    """Column lineage as recorded; a column of which nothing is known is left out.

    Steps that were fused share one output, so that their edges are followed one after the other.
    """
    if step["dataset_in"]:
        given = [{"namespace": NAMESPACE, "name": step["dataset_in"]}]
    else:
        given = [{k: d[k] for k in ("namespace", "name")} for d in _inputs(facts, step)]
    names = [f["name"] for f in facets.get("schema", {}).get("fields", [])]
    made, filters = _followed(facts, step, names)
    fields = {
        name: {
            "inputFields": [
                {**source, "field": column, "transformations": [_transformation(how)]}
                for column, how in sorted(roots)
                for source in given
            ]
        }
        for name, roots in made.items()
        if roots
    }
    whole = [
        {**source, "field": column, "transformations": [_transformation("filtered")]}
        for column in sorted(filters)
        for source in given
    ]
    if not (fields or whole):
        return {}
    return {"columnLineage": _facet("columnLineage", {"fields": fields, "dataset": whole})}


def _followed(
    facts: Facts, step: Mapping[str, Any], names: list[str]
) -> tuple[dict[str, set[tuple[str, str]]], set[str]]:
    """Each column's roots before a group of fused steps, and the columns that rows left by."""
    made = {name: {(name, "copied")} for name in names}
    filters: set[str] = set()
    shared = ("dataset_in", "dataset_out")
    chain = [
        s
        for s in facts["steps"]
        if s["position"] <= step["position"] and all(s[k] == step[k] for k in shared)
    ]
    readers = [s for s in chain if s["shape"] == "read"]
    for one in reversed([*readers[:1], *(s for s in chain if s["shape"] != "read")]):
        origin = one["reused_from"] or one["step_id"]
        edges = [e for e in facts["columns"] if e["step_id"] == origin]
        made = {
            name: {root for column, how in held for root in _before(edges, column, how)}
            for name, held in made.items()
        }
        filters = {c for f in filters for c, _ in _before(edges, f, "copied")}
        filters |= {e["column_in"] for e in edges if e["how"] == "filtered"}
    return made, filters


def _before(edges: list[dict[str, Any]], column: str, how: str) -> set[tuple[str, str]]:
    """What a column was made from in one step; nothing when the step's plan does not tell."""
    named = [e for e in edges if e["column_out"] == column and e["how"] != "filtered"]
    if named:
        return {
            (e["column_in"], "derived" if "derived" in (how, e["how"]) else "copied")
            for e in named
            if e["column_in"]
        }
    copied = any(e["column_out"] == "*" and e["how"] == "copied" for e in edges)
    return {(column, how)} if copied else set()


def _transformation(how: str) -> dict[str, str]:
    kind, subtype = _HOW.get(how, ("DIRECT", "TRANSFORMATION"))
    return {"type": kind, "subtype": subtype}


def _own_step(step: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        "stage": step["stage"],
        "version": step["version"],
        "code": step["code_digest"],
        "seed": step["seed"],
        "reused": step["reused_from"] is not None,
        "cpuSeconds": step["cpu_seconds"],
        "peakBytes": step["peak_bytes"],
    }
    return _own("Step", told)


def _engine(facts: Facts) -> dict[str, Any]:
    versions = facts.run["environment"] or {}
    told = {
        "version": str(versions.get("polars", "not recorded")),
        "name": "polars",
        "openlineageAdapterVersion": __version__,
    }
    return _facet("processing_engine", told)


def _job_type(kind: str) -> dict[str, Any]:
    told = {"processingType": "BATCH", "integration": "DATAPIPE", "jobType": kind}
    return _facet("jobType", told)


def _facet(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{FACETS}/{_TYPES[name]}", **told}


def _own(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """One of our facets; its schema lies in `manifests/schemas/openlineage.v1.json`."""
    url = f"{OWN_FACETS}/v1.json#/$defs/{name}"
    return {
        "_producer": PRODUCER,
        "_schemaURL": url,
        **{k: v for k, v in told.items() if v is not None},
    }


def _uuid(name: str) -> str:
    """OpenLineage names runs by UUID; ours follows from our name for it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{OWN_FACETS}/runs/{name}"))
