# SPDX-License-Identifier: Apache-2.0
"""Our PROV document read and written again by the reference library: nothing is lost."""

from __future__ import annotations

import json

import pytest

from datapipe.integrations.prov import document


def test_round_trip_is_equal(facts):
    model = pytest.importorskip("prov.model")
    text = json.dumps(document(facts))
    first = model.ProvDocument.deserialize(content=text, format="json")
    again = model.ProvDocument.deserialize(content=first.serialize(format="json"), format="json")
    assert first == again
    assert len(first.get_records()) == sum(
        len(v) for k, v in document(facts).items() if k != "prefix"
    )


def test_every_derivation_joins_things_that_are_told(facts):
    form = document(facts)
    for line in form["wasDerivedFrom"].values():
        assert {line["prov:generatedEntity"], line["prov:usedEntity"]} <= set(form["entity"])
    for line in form["used"].values():
        assert line["prov:entity"] in form["entity"]
        assert line["prov:activity"] in form["activity"]
