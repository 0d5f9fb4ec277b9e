# SPDX-License-Identifier: Apache-2.0
"""A data set of the store as Croissant 1.1 with the RAI vocabulary.

What the store does not know is left out: a reader must not take an empty field for an answer.

References:
    MLCommons, 2025, Croissant Format Specification 1.1 and Croissant RAI Specification 1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from datapipe import __version__
from datapipe.integrations.facts import Facts, bare, moment
from datapipe.integrations.spdx import licence_url

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
RAI = "http://mlcommons.org/croissant/RAI/1.0"

_SHORT = (
    "citeAs column conformsTo extract field fileProperty fileObject fileSet format includes "
    "isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform equivalentProperty"
)
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in _SHORT.split() if name != "conformsTo"},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}

_KINDS = (
    ("Int", "sc:Integer"),
    ("UInt", "sc:Integer"),
    ("Float", "sc:Float"),
    ("Decimal", "sc:Float"),
    ("Boolean", "sc:Boolean"),
    ("Datetime", "sc:DateTime"),
    ("Date", "sc:Date"),
)


def metadata(facts: Facts, dataset: Mapping[str, Any], file: str, sha256: str) -> dict[str, Any]:
    """The Croissant description of one stored data set and the copy of it beside.

    Args:
        facts: What the store knows about the run that made it.
        dataset: Its line in `datasets`.
        file: Name of the Parquet file beside the description.
        sha256: Digest of that file, hexadecimal.

    Returns:
        A JSON-LD object.

    Example:
        >>> from datetime import datetime
        >>> run = {"pipeline": "p", "started_at": datetime(2026, 1, 1)}
        >>> line = {"digest": "sha256:00", "schema": {"a": "Int64"}, "rows": 1, "run_id": "r1"}
        >>> told = metadata(Facts("r1", {"run": [run]}), line, "a.parquet", "00")
        >>> told["recordSet"][0]["field"][0]["dataType"]
        'sc:Integer'
    """
    sources = facts["sources"]
    licences = sorted({licence_url(s["licence"]) for s in sources if s["licence"]})
    name = f"{facts.run['pipeline']}-{bare(dataset['digest'])[:12]}"
    form: dict[str, Any] = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "name": name,
        "description": f"{dataset['rows']:,} rows, result of the run {facts.run_id} of the "
        f"pipeline {facts.run['pipeline']}",
        "conformsTo": [CONFORMS_TO, RAI],
        "datePublished": moment(facts.run["started_at"])[:10],
        "version": "1.0.0",
        "citeAs": f"urn:sha256:{bare(dataset['digest'])}",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file,
                "name": file,
                "contentUrl": file,
                "encodingFormat": "application/x-parquet",
                "sha256": sha256,
            }
        ],
        "recordSet": [_record_set(dataset, file)],
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "sc:name": f"datapipe {__version__}, run {facts.run_id}",
        },
        "prov:wasDerivedFrom": [_entity(s) for s in sources],
    }
    if licences:
        form["license"] = licences
    return form | _rai(facts, dataset)


def _record_set(dataset: Mapping[str, Any], file: str) -> dict[str, Any]:
    fields, ids = [], _ids(dataset["schema"] or {})
    for column, kind in (dataset["schema"] or {}).items():
        inner, listed = _inner(kind)
        form = {
            "@type": "cr:Field",
            "@id": f"rows/{ids[column]}",
            "name": column,
            "dataType": _data_type(inner),
            "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
        }
        fields.append(form | ({"repeated": True} if listed else {}))
    return {"@type": "cr:RecordSet", "@id": "rows", "name": "rows", "field": fields}


def _ids(columns: Iterable[str]) -> dict[str, str]:
    """An id of each column: its name, unless white space in it makes that no id."""
    found: dict[str, str] = {}
    for column in columns:
        name = plain = "_".join(column.split()) or "column"
        number = 2
        while name in found.values():
            name, number = f"{plain}_{number}", number + 1
        found[column] = name
    return found


def _inner(kind: str) -> tuple[str, bool]:
    """The type of a column's values, and whether each cell is a list of them."""
    for start in ("List(", "Array("):
        if kind.startswith(start):
            return kind[len(start) :].split(",", maxsplit=1)[0].rstrip(")"), True
    return kind, False


def _data_type(kind: str) -> str:
    return next((told for start, told in _KINDS if kind.startswith(start)), "sc:Text")


def _entity(source: Mapping[str, Any]) -> dict[str, Any]:
    form = {
        "@type": "prov:Entity",
        "@id": f"urn:sha256:{bare(source['digest'])}",
        "sc:name": source["name"],
    }
    if source["licence"]:
        form["sc:license"] = source["licence"]
    return form


def _rai(facts: Facts, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Responsible-AI properties, each a sentence of recorded facts."""
    return {f"rai:{name}": told for name, told in _told(facts, dataset) if told not in ("", None)}


def _told(facts: Facts, dataset: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    sources = facts["sources"]
    origins = sorted({s["origin"] for s in sources if s["origin"]})
    yield "dataCollection", f"Collected by {', '.join(origins)}." if origins else ""
    steps = [f"{s['stage']} {s['version']}" for s in facts["steps"]]
    yield "dataPreprocessingProtocol", f"Steps in order: {', '.join(steps)}." if steps else ""
    dropped = [f"{d['rows']:,} rows: {d['reason']} ({d['stage']})" for d in facts["dropped"]]
    yield "dataManipulationProtocol", f"Set aside: {'; '.join(dropped)}." if dropped else ""
    told = [f for f in facts["findings"] if f["verdict"] in ("suspect", "fail")]
    yield "dataLimitations", " ".join(f"{f['kind']} is {f['verdict']}." for f in told)
    biased = [f for f in told if f["kind"].startswith("balance.")]
    yield "dataBiases", " ".join(f"{f['kind']} is {f['verdict']}." for f in biased)
    personal = (dataset.get("roles") or {}).get("subject")
    yield "personalSensitiveInformation", "A column names persons." if personal else ""
    share = next((s for s in facts["synthetic"] if s["dataset"] == dataset["digest"]), None)
    if share is not None and any(s["synthetic"] is not None for s in sources):
        yield "hasSyntheticData", bool(share["declared_rows"])
