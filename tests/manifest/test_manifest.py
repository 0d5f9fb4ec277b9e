# SPDX-License-Identifier: Apache-2.0
"""The noun: stated once, signed by many, verified by anybody."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import datapipe
from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.facts import Terms
from datapipe.manifest.manifest import Manifest
from datapipe.manifest.policy import Policy
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.manifest.statement import Subject
from datapipe.manifest.verify import verify_path

ONE = Subject("rows.csv", {"sha256": "a" * 64})
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def test_it_is_a_name_of_the_library():
    assert datapipe.Manifest is Manifest


def test_parties_sign_one_after_another(tmp_path, ada, bob, cleo):
    manifest = Manifest.about(DatasetPredicate("reviews"), ONE)
    path = tmp_path / "reviews.dsse.json"
    path.write_bytes(manifest.sign(ada).to_bytes())
    path.write_bytes(Manifest.open(path).sign(bob, cleo).to_bytes())
    read = Manifest.open(path)
    assert read.predicate == DatasetPredicate("reviews")
    assert read.digest == manifest.digest
    keys = [*ada.public_keys, *bob.public_keys, *cleo.public_keys]
    assert read.verify(*keys).require().passed
    assert read.verify(keys[0]).failed[0].code == Reason.UNKNOWN_SIGNER
    with pytest.raises(DeclarationError):
        read.sign(ada)


def test_unsigned_is_told(ada):
    with pytest.raises(TrustError) as caught:
        Manifest.about(DatasetPredicate("reviews"), ONE).verify(ada.public_key)
    assert caught.value.code == Reason.UNSIGNED


def test_a_policy_verifies(root, person):
    policy = Policy.load(root / "manifests" / "policies" / "two-owners.toml")
    said = DatasetPredicate(
        "reviews",
        terms=Terms(("CC0-1.0",), {"ai_training": "allowed"}),
        declared_synthetic_share=0.0,
    )
    envelope = Manifest.about(said, ONE).sign(person["ada"], person["eve"])
    assert Manifest.open(envelope).verify(policy).failed[0].code == Reason.UNKNOWN_SIGNER


def test_a_folder_is_stated_as_signing_states_it(reviews, bob):
    signed = sign_path(reviews, bob)
    payload = Envelope.load(signed.attestation).payload
    assert Manifest.of_path(reviews).statement.to_bytes() == payload


@pytest.mark.parametrize("written", [".", "sub/..", "../reviews"])
def test_odd_ways_to_name_a_folder(reviews, bob, monkeypatch, written):
    monkeypatch.chdir(reviews)
    assert sign_path(written, bob).attestation == reviews.parent / "reviews.dsse.json"
    assert verify_path(written, keys=bob.public_keys).passed


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), which=st.integers(0, 2))
def test_no_flipped_bit_survives(tmp_path_factory, ada, position, bit, which):
    """In the data, in the attestation or in the bundle: one bit is enough to be refused."""
    folder = tmp_path_factory.mktemp("law") / "d"
    folder.mkdir()
    (folder / "rows.csv").write_bytes(b"text,label\n" * 9)
    signed = sign_path(folder, ada)
    path = (folder / "rows.csv", signed.attestation, signed.openssf)[which]
    data = bytearray(path.read_bytes())
    at = position % len(data)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    assert not verify_path(folder, keys=ada.public_keys).passed
