# SPDX-License-Identifier: Apache-2.0
"""Envelopes: every signature counts, none may be false, and peers read them."""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import replace

import pytest

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import Envelope, Signature, pae
from datapipe.manifest.keys import ALGORITHMS, HybridKey, PrivateKey
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.manifest.statement import Subject
from datapipe.manifest.verify import Trust

PAYLOAD = DatasetPredicate("a").about(Subject("a", {"sha256": "0" * 64})).to_bytes()
KEYS = [PrivateKey.new(name) for name in ALGORITHMS]
PUBLIC = [key.public_key for key in KEYS]


def refused(envelope, keys, **options):
    with pytest.raises(TrustError) as caught:
        envelope.verify(keys, **options)
    return caught.value.code


def forged(envelope, number, **changes):
    signatures = list(envelope.signatures)
    signatures[number] = replace(signatures[number], **changes)
    return replace(envelope, signatures=tuple(signatures))


def test_the_encoding_is_that_of_the_specification():
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.algorithm)
def test_each_algorithm_signs_and_refuses(key):
    envelope = Envelope.from_bytes(Envelope.sign(PAYLOAD, key).to_bytes())
    assert envelope.verify([key.public_key]) == (key.public_key,)
    assert refused(replace(envelope, payload=PAYLOAD + b" "), [key.public_key]) == (
        Reason.BAD_SIGNATURE
    )
    assert refused(replace(envelope, payload_type="text/plain"), [key.public_key]) == (
        Reason.BAD_SIGNATURE
    )
    other = PrivateKey.new(key.algorithm).public_key
    assert refused(envelope, [other]) == Reason.WRONG_KEY
    under_other_name = forged(envelope, 0, keyid=other.keyid)
    assert refused(under_other_name, [other]) == Reason.BAD_SIGNATURE


def test_many_sign_and_a_threshold_counts_keys():
    envelope = Envelope.sign(PAYLOAD, *KEYS)
    assert len(envelope.verify(PUBLIC, threshold=5)) == 5
    assert refused(envelope, PUBLIC, threshold=6) == Reason.THRESHOLD
    assert refused(envelope, PUBLIC[:3]) == Reason.UNKNOWN_SIGNER
    assert len(envelope.verify(PUBLIC[:3], threshold=3, allow_unknown=True)) == 3


@pytest.mark.parametrize("number", range(5))
def test_one_false_signature_refuses_all(number):
    envelope = Envelope.sign(PAYLOAD, *KEYS)
    sig = envelope.signatures[number].sig
    flipped = forged(envelope, number, sig=bytes([sig[0] ^ 1]) + sig[1:])
    assert refused(flipped, PUBLIC) == Reason.GARBAGE_SIGNATURE
    assert refused(flipped, PUBLIC, allow_unknown=True) == Reason.GARBAGE_SIGNATURE


def test_one_key_counts_once():
    key = KEYS[0]
    once = Envelope.sign(PAYLOAD, key)
    twice = replace(once, signatures=once.signatures * 2)
    assert refused(twice, [key.public_key]) == Reason.DUPLICATE_SIGNATURE
    nameless = replace(once, signatures=(*once.signatures, replace(once.signatures[0], keyid="")))
    assert refused(nameless, [key.public_key]) == Reason.DUPLICATE_SIGNATURE
    with pytest.raises(DeclarationError):
        once.add(key)


def test_a_signature_without_keyid_is_tried_with_every_key():
    envelope = forged(Envelope.sign(PAYLOAD, KEYS[1]), 0, keyid="")
    assert envelope.verify(PUBLIC) == (PUBLIC[1],)


def test_nothing_to_verify_is_no_success():
    assert refused(Envelope(PAYLOAD), PUBLIC) == Reason.UNSIGNED
    assert refused(Envelope.sign(PAYLOAD, KEYS[0]), []) == Reason.NO_KEYS
    with pytest.raises(DeclarationError):
        Envelope.sign(PAYLOAD)


def test_a_hybrid_key_signs_thrice_and_less_is_not_enough():
    key = HybridKey.new()
    envelope = Envelope.sign(PAYLOAD, key)
    assert len(envelope.verify(key.public_keys, threshold=3)) == 3
    less = replace(envelope, signatures=envelope.signatures[:2])
    assert refused(less, key.public_keys, threshold=3) == Reason.THRESHOLD


def test_no_signature_of_a_hybrid_key_can_be_stripped():
    """A forger of one algorithm would strip the others."""
    key, other = HybridKey.new(), PrivateKey.new("ed25519")
    envelope = Envelope.sign(PAYLOAD, key)
    believed = (*other.public_keys, *key.public_keys, other.public_key)
    assert len(Trust(believed).accept(envelope)) == 3
    assert len(Trust(believed).accept(Envelope.sign(PAYLOAD, other))) == 1
    for number in range(3):
        kept = [s for i, s in enumerate(envelope.signatures) if i != number]
        with pytest.raises(TrustError) as caught:
            Trust(believed).accept(replace(envelope, signatures=tuple(kept)))
        assert caught.value.code == Reason.HYBRID_PART


def test_hybrid_keys_of_before_still_sign():
    old = HybridKey(tuple(PrivateKey.new(name) for name in ("ed25519", "ml-dsa-65")))
    assert len(Trust(old.public_keys).accept(Envelope.sign(PAYLOAD, old))) == 2


@pytest.mark.parametrize(
    "form",
    [
        [],
        {"payload": "e30=", "payloadType": "a/b"},
        {"payload": "e30=", "payloadType": "a/b", "signatures": [], "more": 1},
        {"payload": "e30", "payloadType": "a/b", "signatures": []},
        {"payload": "e31=", "payloadType": "a/b", "signatures": []},
        {"payload": "e30=\n", "payloadType": "a/b", "signatures": []},
        {"payload": "e30=", "payloadType": 1, "signatures": []},
        {"payload": "e30=", "payloadType": "a/b", "signatures": {}},
        {"payload": "e30=", "payloadType": "a/b", "signatures": [{}]},
        {"payload": "e30=", "payloadType": "a/b", "signatures": [{"sig": ""}]},
        {"payload": "e30=", "payloadType": "a/b", "signatures": [{"sig": "eA==", "x": 1}]},
        {"payload": "e30=", "payloadType": "a/b", "signatures": [{"sig": "eA==", "keyid": 1}]},
    ],
)
def test_other_forms_are_refused(form):
    with pytest.raises(TrustError) as caught:
        Envelope.from_bytes(json.dumps(form).encode())
    assert caught.value.code == Reason.BAD_FORM


def test_too_many_signatures_are_not_tried():
    form = {"payload": "", "payloadType": "a/b", "signatures": [{"sig": "eA=="}] * 65}
    with pytest.raises(TrustError) as caught:
        Envelope.from_json(form)
    assert caught.value.code == Reason.TOO_LARGE


def test_a_payload_of_another_type_is_no_statement():
    with pytest.raises(TrustError):
        Envelope.sign(PAYLOAD, KEYS[0], payload_type="text/plain").statement()


def test_securesystemslib_accepts_our_envelopes_and_notices_each_forgery():
    dsse = pytest.importorskip("securesystemslib.dsse", reason="securesystemslib is not installed")
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    theirs = [SSlibKey.from_crypto(key.raw) for key in PUBLIC]
    assert [key.keyid for key in theirs] == [key.keyid for key in PUBLIC]
    envelope = Envelope.sign(PAYLOAD, *KEYS)
    read = dsse.Envelope.from_dict(copy.deepcopy(envelope.to_json()))
    assert len(read.verify(theirs, threshold=5)) == 5
    for number in range(5):
        sig = bytearray(envelope.signatures[number].sig)
        sig[-1] ^= 1
        form = forged(envelope, number, sig=bytes(sig)).to_json()
        with pytest.raises(VerificationError):
            dsse.Envelope.from_dict(copy.deepcopy(form)).verify(theirs, threshold=5)
        assert len(dsse.Envelope.from_dict(form).verify(theirs, threshold=4)) == 4


def test_securesystemslib_accepts_a_hybrid_key_at_threshold_three_and_no_less():
    dsse = pytest.importorskip("securesystemslib.dsse", reason="securesystemslib is not installed")
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    key = HybridKey.new()
    theirs = [SSlibKey.from_crypto(public.raw) for public in key.public_keys]
    envelope = Envelope.sign(PAYLOAD, key)
    read = dsse.Envelope.from_dict(copy.deepcopy(envelope.to_json()))
    assert len(read.verify(theirs, threshold=3)) == 3
    for number in range(3):
        sig = bytearray(envelope.signatures[number].sig)
        sig[len(sig) // 2] ^= 1
        form = forged(envelope, number, sig=bytes(sig)).to_json()
        with pytest.raises(VerificationError):
            dsse.Envelope.from_dict(copy.deepcopy(form)).verify(theirs, threshold=3)


def test_we_accept_envelopes_of_securesystemslib():
    dsse = pytest.importorskip("securesystemslib.dsse", reason="securesystemslib is not installed")
    from securesystemslib.signer import CryptoSigner

    for key in KEYS:
        theirs = dsse.Envelope(PAYLOAD, "application/vnd.in-toto+json", {})
        theirs.sign(CryptoSigner(key.raw))
        envelope = Envelope.from_bytes(json.dumps(theirs.to_dict()).encode())
        assert envelope.verify([key.public_key]) == (key.public_key,)


def test_a_signature_shows_itself():
    form = Signature("id", b"sig").to_json()
    assert base64.b64decode(form["sig"]) == b"sig"
