# SPDX-License-Identifier: Apache-2.0
"""A run as a CycloneDX ML-BOM: its sources and data sets, the models, and what was measured.

References:
    OWASP CycloneDX 1.6 (ECMA-424), machine-learning bill of materials.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from datapipe import __version__
from datapipe.integrations.facts import Facts, bare, moment

SPEC_VERSION = "1.6"
NOT_RECORDED = "not recorded"


def bom(facts: Facts) -> dict[str, Any]:
    """The bill of materials of one run.

    Args:
        facts: What the store knows about the run.

    Returns:
        A CycloneDX 1.6 JSON object.

    Example:
        >>> from datetime import datetime
        >>> run = {"pipeline": "p", "started_at": datetime(2026, 1, 1)}
        >>> bom(Facts("r1", {"run": [run]}))["specVersion"]
        '1.6'
    """
    sources = [_source(s) for s in facts["sources"]]
    datasets = [_dataset(facts, d) for d in _distinct(facts["datasets"], "digest")]
    models = [_model(facts, m) for m in _distinct(facts["models"], "model_id")]
    exports = [_export(e) for e in _distinct(facts["exports"], "export_id")]
    components = list({c["bom-ref"]: c for c in (*sources, *datasets, *models, *exports)}.values())
    whole = f"run:{facts.run_id}"
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, whole)}",
        "version": 1,
        "metadata": {
            "timestamp": moment(facts.run["started_at"]),
            "tools": {
                "components": [{"type": "application", "name": "datapipe", "version": __version__}]
            },
            "component": {
                "type": "application",
                "bom-ref": whole,
                "name": facts.run["pipeline"],
                "version": facts.run_id,
            },
        },
        "components": components,
        "dependencies": _dependencies(facts, whole, components),
    }


def _distinct(lines: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return list({line[key]: line for line in lines}.values())


def _ref(digest: str) -> str:
    return f"sha256:{bare(digest)}"


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": bare(digest)}]


def _properties(told: Mapping[str, Any]) -> list[dict[str, str]]:
    """Facts as name and value; what is not known is said to be so, never left to be guessed."""
    return [
        {
            "name": f"datapipe:{name}",
            "value": NOT_RECORDED if value in (None, "") else str(value),
        }
        for name, value in told.items()
    ]


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = {
        "type": "data",
        "bom-ref": _ref(source["digest"]),
        "name": source["name"],
        "hashes": _hashes(source["digest"]),
        "data": [{"type": "dataset", "name": source["name"]}],
        "properties": _properties(
            {
                "rows": source["rows"],
                "origin": source["origin"],
                "licence": source["licence"],
                "consent": source["consent"],
                "declared-synthetic": source["synthetic"],
                "trust": source["trust"],
            }
        ),
    }
    if source["licence"]:
        form["licenses"] = [{"license": {"name": source["licence"]}}]
    if source["origin"]:
        owner = {"organization": {"name": source["origin"]}}
        form["data"][0]["governance"] = {"owners": [owner]}
    return form


def _dataset(facts: Facts, dataset: Mapping[str, Any]) -> dict[str, Any]:
    share = next((s for s in facts["synthetic"] if s["dataset"] == dataset["digest"]), {})
    data: dict[str, Any] = {"type": "dataset", "name": dataset["object"] or "rows"}
    if (dataset["roles"] or {}).get("subject"):
        data["sensitiveData"] = ["a column names persons"]
    return {
        "type": "data",
        "bom-ref": _ref(dataset["digest"]),
        "name": dataset["object"] or "rows",
        "hashes": _hashes(dataset["digest"]),
        "data": [data],
        "properties": _properties(
            {"rows": dataset["rows"], "declared-synthetic-share": share.get("declared_share")}
        ),
    }


def _model(facts: Facts, model: Mapping[str, Any]) -> dict[str, Any]:
    inputs = [{"ref": _ref(model["dataset"])}] if model["dataset"] else []
    measures = [
        {
            "type": name,
            "value": repr(m["value"]),
            "confidenceInterval": {"lowerBound": repr(m["low"]), "upperBound": repr(m["high"])},
        }
        for name, m in (model["measures"] or {}).items()
        if m.get("value") is not None
    ]
    card: dict[str, Any] = {"modelParameters": {"datasets": inputs}}
    if measures:
        card["quantitativeAnalysis"] = {"performanceMetrics": measures}
    spent = [p for p in facts["privacy"] if p["step_id"] == model["step_id"]]
    return {
        "type": "machine-learning-model",
        "bom-ref": _ref(model["model_id"]),
        "name": model["name"],
        "hashes": _hashes(model["model_id"]),
        "modelCard": card,
        "properties": _properties(
            {
                "epsilon": sum(p["epsilon"] or 0.0 for p in spent) if spent else None,
                "media-type": model["media_type"],
            }
        ),
    }


def _export(export: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": _ref(export["export_id"]),
        "name": export["name"],
        "hashes": _hashes(export["export_id"]),
        "properties": _properties({"media-type": export["media_type"]}),
    }


def _dependencies(
    facts: Facts, whole: str, components: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What was made from what: sources to data sets to models to exports."""
    known = {c["bom-ref"] for c in components}
    below: dict[str, set[str]] = {whole: set(known), **{ref: set() for ref in known}}
    for line in facts["rows_of_sources"]:
        source = next((s for s in facts["sources"] if s["source_no"] == line["source_no"]), None)
        if source is not None and line["rows"]:
            below.setdefault(_ref(line["digest"]), set()).add(_ref(source["digest"]))
    for model in facts["models"]:
        below[_ref(model["model_id"])].add(_ref(model["dataset"] or ""))
    for export in facts["exports"]:
        below[_ref(export["export_id"])].add(_ref(export["model"] or ""))
    return [
        {"ref": ref, "dependsOn": sorted((refs & known) - {ref})}
        for ref, refs in sorted(below.items())
    ]
