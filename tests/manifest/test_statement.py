# SPDX-License-Identifier: Apache-2.0
"""Statements: what is written is read back, and nothing else is."""

from __future__ import annotations

import json

import pytest

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.statement import Statement, Subject

ZEROS = "0" * 64
SAID = Statement((Subject("a", {"sha256": ZEROS}),), "https://example.org/v1", {"n": 1})


def changed(**fields):
    form = {**SAID.to_json(), **fields}
    return json.dumps({k: v for k, v in form.items() if v is not ...}).encode()


def test_a_statement_is_read_back():
    assert Statement.from_bytes(SAID.to_bytes()) == SAID
    assert Statement.from_bytes(changed()).digest == SAID.digest


def test_the_digest_binds_every_part():
    others = [
        Statement((Subject("b", {"sha256": ZEROS}),), SAID.predicate_type, SAID.predicate),
        Statement((Subject("a", {"sha256": "1" * 64}),), SAID.predicate_type, SAID.predicate),
        Statement(SAID.subjects, "https://example.org/v2", SAID.predicate),
        Statement(SAID.subjects, SAID.predicate_type, {"n": 2}),
    ]
    assert len({SAID.digest, *(other.digest for other in others)}) == 5


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (changed(_type="https://in-toto.io/Statement/v0.1"), Reason.BAD_FORM),
        (changed(_type=...), Reason.BAD_FORM),
        (changed(extra=1), Reason.UNKNOWN_FIELD),
        (changed(subject=[]), Reason.SUBJECT_COUNT),
        (changed(subject={}), Reason.SUBJECT_COUNT),
        (changed(subject=["a"]), Reason.BAD_FORM),
        (changed(subject=[{"name": "a"}]), Reason.BAD_FORM),
        (changed(subject=[{"name": "", "digest": {"sha256": ZEROS}}]), Reason.BAD_FORM),
        (changed(subject=[{"name": "a", "digest": {"sha256": "0"}}]), Reason.BAD_FORM),
        (changed(subject=[{"name": "a", "digest": {"sha256": "A" * 64}}]), Reason.BAD_FORM),
        (changed(subject=[{"name": "a", "digest": {}}]), Reason.BAD_FORM),
        (changed(predicateType="no-uri"), Reason.BAD_FORM),
        (changed(predicate=[]), Reason.BAD_FORM),
        (b"[]", Reason.BAD_FORM),
    ],
)
def test_other_forms_are_refused(payload, reason):
    with pytest.raises(TrustError) as caught:
        Statement.from_bytes(payload)
    assert caught.value.code == reason


@pytest.mark.parametrize("digests", [{}, {"sha256": "xyz"}, {"sha256": "0" * 63}, {"md5": "abc"}])
def test_a_subject_needs_a_digest(digests):
    with pytest.raises(DeclarationError):
        Subject("a", digests)


def test_a_statement_is_about_something():
    with pytest.raises(DeclarationError):
        Statement((), "https://example.org/v1", {})


def test_in_toto_accepts_our_statements():
    reason = "in-toto-attestation is not installed"
    theirs = pytest.importorskip("in_toto_attestation.v1.statement", reason=reason)
    from google.protobuf import json_format

    form = json_format.Parse(SAID.to_bytes(), theirs.spb.Statement())
    theirs.Statement.copy_from_pb(form).validate()
    assert form.subject[0].name == "a"
