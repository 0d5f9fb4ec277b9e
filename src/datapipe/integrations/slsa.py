# SPDX-License-Identifier: Apache-2.0
"""A run as SLSA provenance v1: what was built, by which definition, from which dependencies.

References:
    SLSA 1.0, Provenance, https://slsa.dev/spec/v1.0/provenance
"""

from __future__ import annotations

from typing import Any

from datapipe import __version__
from datapipe.errors import DeclarationError
from datapipe.integrations.facts import Facts, bare, moment
from datapipe.manifest.statement import Statement, Subject

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://datapipe.dev/pipeline/v1"
BUILDER = "https://datapipe.dev/executor/local/v1"


def provenance(facts: Facts) -> Statement:
    """The SLSA statement about what a run left: its last data set, its models and exports.

    Args:
        facts: What the store knows about the run.

    Returns:
        A statement to sign; sign it with `Envelope.sign(statement.to_bytes(), key)`.

    Raises:
        DeclarationError: The run left nothing.

    Example:
        >>> from datetime import datetime
        >>> run = {"pipeline": "p", "started_at": datetime(2026, 1, 1), "seed": 7}
        >>> data = {"digest": "sha256:" + "0" * 64, "object": "a.parquet"}
        >>> provenance(Facts("r1", {"run": [run], "status": [{"ended_at": None}],
        ...     "datasets": [data]})).predicate["buildDefinition"]["externalParameters"]["seed"]
        7
    """
    subjects = [Subject(name, {"sha256": digest}) for name, digest in _left(facts)]
    if not subjects:
        raise DeclarationError(
            f"run {facts.run_id} left no data set and no model",
            code="DP-USE-034",
            hint="choose a finished run: datapipe sql 'from run_status'",
        )
    run = facts.run
    steps = [
        {"stage": s["stage"], "version": s["version"], "params": s["params"]}
        for s in facts["steps"]
    ]
    code = [
        {"name": f"stage {s['stage']}", "digest": {"sha256": bare(s["code_digest"])}}
        for s in facts["steps"]
        if s["code_digest"]
    ]
    ended = moment(facts["status"][0]["ended_at"])
    metadata: dict[str, Any] = {
        "invocationId": f"https://datapipe.dev/run/{facts.run_id}",
        "startedOn": moment(run["started_at"]),
    }
    if ended:
        metadata["finishedOn"] = ended
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "pipeline": run["pipeline"],
                "seed": run["seed"],
                "steps": steps,
            },
            "internalParameters": {"environment": run.get("environment") or {}},
            "resolvedDependencies": [*_sources(facts), *code],
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"datapipe": __version__}},
            "metadata": metadata,
            "byproducts": [
                {
                    "name": f"attestation {a['predicate_type']}",
                    "digest": {"sha256": bare(a["digest"])},
                }
                for a in facts["attestations"]
            ],
        },
    }
    return Statement(tuple(subjects), PREDICATE, predicate)


def _left(facts: Facts) -> list[tuple[str, str]]:
    final = facts.final
    left = [] if final is None else [(final["object"] or "rows", bare(final["digest"]))]
    left += [(m["name"], bare(m["model_id"])) for m in facts["models"]]
    left += [(e["name"], bare(e["export_id"])) for e in facts["exports"]]
    return list(dict.fromkeys(left))


def _sources(facts: Facts) -> list[dict[str, Any]]:
    found = []
    for source in facts["sources"]:
        notes = {
            "licence": source["licence"] or None,
            "consent": source["consent"] or None,
            "declaredSynthetic": source["synthetic"],
            "trust": source["trust"],
            "rows": source["rows"],
        }
        found.append(
            {
                "name": source["name"],
                "uri": source["uri"],
                "digest": {"sha256": bare(source["digest"])},
                "annotations": {k: v for k, v in notes.items() if v is not None},
            }
        )
    return found
