# SPDX-License-Identifier: Apache-2.0
"""Our bill of materials under CycloneDX's strict validation."""

from __future__ import annotations

import copy
import json

import pytest

from datapipe.integrations.cyclonedx import bom


@pytest.fixture
def formats_checked(monkeypatch):
    """Every format of the schema is checked; an IRI as a URI, which is the stricter of the two."""
    schemas = pytest.importorskip("jsonschema")
    uris = pytest.importorskip("rfc3986_validator")

    def is_uri_reference(value):
        return uris.validate_rfc3986(value, rule="URI_reference") is not None

    checkers = schemas.Draft7Validator.FORMAT_CHECKER.checkers
    monkeypatch.setitem(checkers, "iri-reference", (is_uri_reference, ()))
    assert {"date-time", "idn-email", "iri-reference"} <= checkers.keys()


@pytest.mark.parametrize("version", ["1.6", "1.7"])
def test_it_validates_strictly(facts, version, formats_checked):
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    form = bom(facts) | {"specVersion": version}
    form["$schema"] = f"http://cyclonedx.org/schema/bom-{version}.schema.json"
    validator = validation.JsonStrictValidator(SchemaVersion.from_version(version))
    assert validator.validate_str(json.dumps(form)) is None
    broken = copy.deepcopy(form)
    broken["components"][0]["type"] = "spreadsheet"
    assert validator.validate_str(json.dumps(broken)) is not None
    nowhere = copy.deepcopy(form)
    nowhere["externalReferences"] = [{"type": "website", "url": "no such: place"}]
    assert validator.validate_str(json.dumps(nowhere)) is not None


def test_models_name_their_data_and_figures_their_intervals(facts):
    found = {c["name"]: c for c in bom(facts)["components"]}
    (data,) = found["plain"]["modelCard"]["modelParameters"]["datasets"]
    assert data["ref"] in {c["bom-ref"] for c in found.values()}
    (metric,) = found["plain"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    low, high = (float(metric["confidenceInterval"][k]) for k in ("lowerBound", "upperBound"))
    assert low < float(metric["value"]) < high
    chain = {d["ref"]: d["dependsOn"] for d in bom(facts)["dependencies"]}
    assert chain[found["small"]["bom-ref"]] == [found["plain"]["bom-ref"]]
    assert chain[found["plain"]["bom-ref"]] == [data["ref"]]


def test_what_nobody_declared_is_not_recorded(facts):
    (made,) = [c for c in bom(facts)["components"] if c["name"].startswith("made")]
    told = {p["name"]: p["value"] for p in made["properties"]}
    assert told["datapipe:licence"] == "not recorded"
    assert told["datapipe:declared-synthetic"] == "True"
