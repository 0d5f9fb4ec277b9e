# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the C2SP form, read strictly."""

from __future__ import annotations

import base64
import hashlib

import pytest

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.keys import HybridKey, PrivateKey
from datapipe.manifest.log import EMPTY_ROOT, Checkpoint, Frontier, leaf_hash

KEY = PrivateKey.new("ed25519")


@pytest.fixture
def signed():
    frontier = Frontier()
    for number in range(5):
        frontier = frontier.grown(leaf_hash(bytes([number])))
    return Checkpoint.of("datapipe/reviews", frontier).sign(KEY)


def test_the_text_is_that_of_the_specification(signed):
    note, _, line = signed.to_text().partition("\n\n")
    assert note.split("\n")[:2] == ["datapipe/reviews", "5"]
    dash, name, encoded = line.rstrip("\n").split(" ")
    blob = base64.b64decode(encoded)
    raw = KEY.public_key.raw.public_bytes_raw()
    assert (dash, name) == ("\u2014", "datapipe/reviews")
    assert blob[:4] == hashlib.sha256(b"datapipe/reviews\n\x01" + raw).digest()[:4]
    KEY.public_key.raw.verify(blob[4:], (note + "\n").encode())


def test_what_is_written_is_read_and_verified(signed):
    read = Checkpoint.parse(signed.to_text())
    assert read == signed
    assert read.verify([KEY.public_key]).size == 5


def test_other_keys_and_other_notes_are_refused(signed):
    other = PrivateKey.new("ed25519")
    for keys in ([], [other.public_key], [PrivateKey.new("p256").public_key]):
        with pytest.raises(TrustError) as caught:
            signed.verify(keys)
        assert caught.value.code == Reason.WRONG_KEY
    changed = Checkpoint(signed.origin, 6, signed.root, signed.signatures)
    with pytest.raises(TrustError) as caught:
        changed.verify([KEY.public_key])
    assert caught.value.code == Reason.BAD_SIGNATURE


def test_witnesses_add_their_lines(signed):
    witness = HybridKey.new()
    both = Checkpoint.parse(signed.sign(witness, name="witness.example").to_text())
    assert both.verify([KEY.public_key]) == both.verify(witness.public_keys)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.replace("\n5\n", "\n05\n"),
        lambda text: text.replace("\n5\n", "\n+5\n"),
        lambda text: text.replace("\n5\n", "\n5 \n"),
        lambda text: text.replace("datapipe/reviews\n5", "two words\n5"),
        lambda text: text.replace("\n\n", "\nextension\n\n", 1),
        lambda text: text[:-1],
        lambda text: text.replace("\u2014", "-"),
        lambda text: text.replace("=\n\n", "\n\n"),
        lambda text: text + "\n",
        lambda text: text + "x" * 100_000,
        lambda _: "",
    ],
)
def test_other_forms_are_refused(signed, change):
    with pytest.raises(TrustError) as caught:
        Checkpoint.parse(change(signed.to_text()))
    assert caught.value.code == Reason.LOG_CHECKPOINT


def test_what_cannot_be_a_checkpoint_is_not_made():
    for origin, size, tree in (("two words", 0, EMPTY_ROOT), ("a", -1, EMPTY_ROOT), ("a", 0, b"")):
        with pytest.raises(DeclarationError):
            Checkpoint(origin, size, tree)
    with pytest.raises(DeclarationError):
        Checkpoint("a", 0, EMPTY_ROOT).sign(PrivateKey.new("p256"))
    with pytest.raises(DeclarationError):
        Checkpoint("a", 0, EMPTY_ROOT).sign(KEY, name="a+b")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"\xff\xfe")
    with pytest.raises(TrustError):
        Checkpoint.load(tmp_path / "checkpoint")
