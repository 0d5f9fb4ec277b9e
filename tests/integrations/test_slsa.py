# SPDX-License-Identifier: Apache-2.0
"""The SLSA statement in in-toto's own reading, and signed."""

from __future__ import annotations

import json

import pytest

from datapipe.integrations.slsa import BUILD_TYPE, PREDICATE, provenance
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.signers import PrivateKey


def test_the_reference_library_takes_the_statement(facts):
    pytest.importorskip("in_toto_attestation")
    from google.protobuf.json_format import Parse
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Whole

    text = provenance(facts).to_bytes().decode()
    Statement.copy_from_pb(Parse(text, Whole())).validate()
    predicate = Parse(json.dumps(json.loads(text)["predicate"]), Provenance())
    assert predicate.build_definition.build_type == BUILD_TYPE
    assert len(predicate.build_definition.resolved_dependencies) >= len(facts["sources"])


def test_it_names_what_went_in_and_what_came_out(facts):
    told = provenance(facts)
    assert told.predicate_type == PREDICATE
    names = {d["name"] for d in told.predicate["buildDefinition"]["resolvedDependencies"]}
    assert {s["name"] for s in facts["sources"]} <= names
    assert {s.name for s in told.subjects} >= {"plain", "small"}
    key = PrivateKey.new("ed25519")
    envelope = Envelope.sign(told.to_bytes(), key)
    assert envelope.verify([key.public_key])
