# SPDX-License-Identifier: Apache-2.0
"""A run as W3C PROV-JSON: data sets and models are entities, steps activities, signers agents.

References:
    Moreau, Missier (eds.), 2013, PROV-DM; Huynh et al., 2013, The PROV-JSON Serialization (W3C).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from datapipe.integrations.facts import Facts, bare, moment

PREFIXES = {
    "dp": "https://datapipe.dev/prov/",
    "sha256": "https://datapipe.dev/sha256/",
    "run": "https://datapipe.dev/run/",
    "key": "https://datapipe.dev/key/",
}


def document(facts: Facts) -> dict[str, Any]:
    """The PROV document of one run.

    Args:
        facts: What the store knows about the run.

    Returns:
        A PROV-JSON object.

    Example:
        >>> from datetime import datetime
        >>> run = {"pipeline": "p", "started_at": datetime(2026, 1, 1)}
        >>> sorted(document(Facts("r1", {"run": [run], "status": [{"ended_at": None}]})))
        ['activity', 'prefix']
    """
    told = _Told()
    ended = facts["status"][0]["ended_at"]
    whole = f"run:{facts.run_id}"
    told.activity(whole, moment(facts.run["started_at"]), moment(ended), facts.run["pipeline"])
    for source in facts["sources"]:
        told.add(
            "entity",
            f"sha256:{bare(source['digest'])}",
            {
                "prov:type": {"$": "dp:Source", "type": "prov:QUALIFIED_NAME"},
                "prov:label": source["name"],
                "dp:licence": source["licence"] or None,
                "dp:consent": source["consent"] or None,
                "dp:declaredSynthetic": source["synthetic"],
                "dp:trust": source["trust"],
            },
        )
        if source["signer"]:
            told.agent(f"key:{source['signer']}")
            told.attributed(source["digest"], f"key:{source['signer']}")
    for dataset in facts["datasets"]:
        told.entity("Dataset", dataset["digest"], dataset["object"] or "", dataset["rows"])
    for step in facts["steps"]:
        _step(facts, told, step, whole)
    for statement in facts["attestations"]:
        for keyid in statement["keyids"] or []:
            told.agent(f"key:{keyid}")
            told.add(
                "wasAssociatedWith", "", {"prov:activity": whole, "prov:agent": f"key:{keyid}"}
            )
    return {"prefix": PREFIXES, **told.parts}


def _step(facts: Facts, told: _Told, step: dict[str, Any], whole: str) -> None:
    """One step: what it used, what it generated, and what derives from what."""
    name = f"run:{step['step_id']}"
    ended = step["recorded_at"]
    started = ended - timedelta(seconds=float(step["seconds"] or 0.0))
    told.activity(name, moment(started), moment(ended), step["stage"])
    told.add("wasInformedBy", "", {"prov:informed": name, "prov:informant": whole})
    given = [step["dataset_in"]] if step["dataset_in"] else [s["digest"] for s in facts["sources"]]
    made = [d["digest"] for d in facts["datasets"] if d["step_id"] == step["step_id"]]
    for model in facts["models"]:
        if model["step_id"] == step["step_id"]:
            told.entity("Model", model["model_id"], model["name"], None)
            made.append(model["model_id"])
    for export in facts["exports"]:
        if export["step_id"] == step["step_id"]:
            told.entity("Export", export["export_id"], export["name"], None)
            told.generated(export["export_id"], name)
            if export["model"].startswith("sha256:"):
                told.derived(export["export_id"], export["model"])
    for digest in given:
        told.add("used", "", {"prov:activity": name, "prov:entity": f"sha256:{bare(digest)}"})
    for digest in made:
        told.generated(digest, name)
        for source in given:
            told.derived(digest, source)


class _Told:
    """The parts of a document, each record under an id; a record said twice is said once."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, Any]] = {}

    def add(self, part: str, name: str, attributes: dict[str, Any]) -> None:
        kept = {k: v for k, v in attributes.items() if v not in (None, "")}
        held = self.parts.setdefault(part, {})
        if not name and kept not in held.values():
            name = f"_:{part}{len(held) + 1}"
        if name:
            held[name] = kept

    def activity(self, name: str, started: str, ended: str, label: str) -> None:
        told = {"prov:startTime": started, "prov:endTime": ended, "prov:label": label}
        self.add("activity", name, told)

    def entity(self, kind: str, digest: str, label: str, rows: int | None) -> None:
        kind_form = {"$": f"dp:{kind}", "type": "prov:QUALIFIED_NAME"}
        told = {"prov:type": kind_form, "prov:label": label, "dp:rows": rows}
        self.add("entity", f"sha256:{bare(digest)}", told)

    def agent(self, name: str) -> None:
        told = {"prov:type": {"$": "dp:Key", "type": "prov:QUALIFIED_NAME"}}
        self.add("agent", name, told)

    def attributed(self, digest: str, agent: str) -> None:
        told = {"prov:entity": f"sha256:{bare(digest)}", "prov:agent": agent}
        self.add("wasAttributedTo", "", told)

    def generated(self, digest: str, activity: str) -> None:
        told = {"prov:entity": f"sha256:{bare(digest)}", "prov:activity": activity}
        self.add("wasGeneratedBy", "", told)

    def derived(self, digest: str, source: str) -> None:
        told = {
            "prov:generatedEntity": f"sha256:{bare(digest)}",
            "prov:usedEntity": f"sha256:{bare(source)}",
        }
        self.add("wasDerivedFrom", "", told)
