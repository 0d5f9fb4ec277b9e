# SPDX-License-Identifier: Apache-2.0
"""Key files: encrypted, private, never overwritten, and read by OpenSSL too."""

from __future__ import annotations

import base64
import stat
import threading

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from datapipe.errors import DeclarationError, ExecutionError, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.keys import (
    ALGORITHMS,
    HybridKey,
    PrivateKey,
    PublicKey,
    demo_key,
    find_passphrase,
    load_key,
    load_public_keys,
    new_key,
    read_public_keys,
)

QUICK = 1000  # rounds of key derivation: the form is tested, not its cost
PASSPHRASE = b"correct horse battery staple"
BY_SHA256 = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBDDS5hIUY8ajY56HBEW
GctvAgID6DAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQlXA2xw45E2yIW6Vg
Zp948gRACfhbEqMBJTg03tLkuelV/dyN2yfwv/k3FKZsXv/pUUuPes36Ouuf3Ywe
ZcXqXgZGlD5mltwTTuyLVq29iKzuHg==
-----END ENCRYPTED PRIVATE KEY-----
"""
"""A key of zeros whose passphrase, `secret`, went through 1,000 rounds of HMAC-SHA256."""


def code_of(call, *args, **options):
    with pytest.raises(TrustError) as caught:
        call(*args, **options)
    return caught.value.code


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "hybrid"])
def test_a_key_is_written_encrypted_and_read_back(tmp_path, algorithm):
    path = tmp_path / "key.pem"
    key = new_key(algorithm, path, PASSPHRASE, rounds=QUICK)
    text = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert text.count(b"BEGIN ENCRYPTED PRIVATE KEY") == len(key.parts)
    read = load_key(path, PASSPHRASE)
    assert (read.algorithm, read.keyid) == (algorithm, key.keyid)
    assert read.public_keys == key.public_keys
    assert [p.name for p in tmp_path.iterdir()] == ["key.pem"]


def test_other_tools_read_the_file(tmp_path):
    path = tmp_path / "key.pem"
    key = new_key("p256", path, PASSPHRASE)
    raw = serialization.load_pem_private_key(path.read_bytes(), PASSPHRASE)
    assert raw.private_numbers() == key.raw.private_numbers()


def test_the_default_makes_guessing_dear(tmp_path):
    """210,000 rounds of HMAC-SHA512 as OWASP asks, not OpenSSL's 2,048: both stand in the file."""
    path = tmp_path / "key.pem"
    new_key("ed25519", path, PASSPHRASE)
    der = base64.b64decode(b"".join(path.read_bytes().splitlines()[1:-1]))
    hmac_sha512 = bytes.fromhex("06082a864886f70d020b")
    assert b"\x02\x03" + (210_000).to_bytes(3, "big") + b"\x30\x0c" + hmac_sha512 in der


def test_keys_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text(BY_SHA256)
    path.chmod(0o600)
    assert load_key(path, b"secret").raw.private_bytes_raw() == bytes(32)


def test_wrong_passphrases_are_refused(tmp_path):
    path = tmp_path / "key.pem"
    new_key("ed25519", path, PASSPHRASE, rounds=QUICK)
    for wrong in (b"", b"correct", PASSPHRASE + b"\n"):
        assert code_of(load_key, path, wrong) == Reason.KEY_PASSPHRASE


def test_errors_name_the_file_and_never_the_secret(tmp_path):
    path = tmp_path / "key.pem"
    new_key("ed25519", path, PASSPHRASE, rounds=QUICK)
    with pytest.raises(TrustError) as caught:
        load_key(path, b"tell-tale")
    assert str(path) in str(caught.value)
    assert "tell-tale" not in str(caught.value)
    assert PASSPHRASE.decode() not in repr(load_key(path, PASSPHRASE))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_key_that_others_may_touch_is_refused(tmp_path, mode):
    path = tmp_path / "key.pem"
    new_key("ed25519", path, PASSPHRASE, rounds=QUICK)
    path.chmod(mode)
    assert code_of(load_key, path, PASSPHRASE) == Reason.KEY_MODE


def test_a_key_without_encryption_is_refused(tmp_path):
    path = tmp_path / "key.pem"
    raw = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(
        raw.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    path.chmod(0o600)
    assert code_of(load_key, path, PASSPHRASE) == Reason.KEY_NOT_ENCRYPTED


def test_what_is_no_key_is_refused(tmp_path):
    path = tmp_path / "key.pem"
    assert code_of(load_key, path, PASSPHRASE) == Reason.KEY_MISSING
    path.write_text("hello")
    path.chmod(0o600)
    assert code_of(load_key, path, PASSPHRASE) == Reason.KEY_FORM
    path.write_bytes(b"x" * 100_000)
    assert code_of(load_key, path, PASSPHRASE) == Reason.KEY_FORM


@pytest.mark.parametrize(
    "raw", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP224R1())]
)
def test_other_kinds_of_keys_are_refused(tmp_path, raw):
    path = tmp_path / "key.pem"
    form = serialization.PrivateFormat.PKCS8
    sealed = serialization.BestAvailableEncryption(PASSPHRASE)
    path.write_bytes(raw.private_bytes(serialization.Encoding.PEM, form, sealed))
    path.chmod(0o600)
    assert code_of(load_key, path, PASSPHRASE) == Reason.KEY_FORM
    pem = raw.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert code_of(PublicKey.from_pem, pem) == Reason.KEY_FORM


def test_two_keys_that_are_no_hybrid_are_refused(tmp_path):
    first = new_key("ed25519", tmp_path / "a", PASSPHRASE, rounds=QUICK)
    new_key("p256", tmp_path / "b", PASSPHRASE, rounds=QUICK)
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes())
    both.chmod(0o600)
    assert code_of(load_key, both, PASSPHRASE) == Reason.KEY_FORM
    assert code_of(HybridKey, (first, first)) == Reason.KEY_FORM


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "key.pem"
    new_key("ed25519", path, PASSPHRASE, rounds=QUICK)
    before = path.read_bytes()
    with pytest.raises(DeclarationError):
        new_key("ed25519", path, PASSPHRASE, rounds=QUICK)
    assert path.read_bytes() == before
    with pytest.raises(DeclarationError):
        new_key("ed25519", tmp_path / "other.pem", b"")
    with pytest.raises(DeclarationError):
        new_key("rsa", tmp_path / "other.pem", PASSPHRASE)
    with pytest.raises(ExecutionError):
        new_key("ed25519", tmp_path / "none" / "key.pem", PASSPHRASE, rounds=QUICK)


def test_where_the_passphrase_comes_from(tmp_path, monkeypatch):
    monkeypatch.delenv("DATAPIPE_KEY_PASSPHRASE", raising=False)
    assert code_of(find_passphrase) == Reason.KEY_PASSPHRASE
    assert find_passphrase(prompt=lambda: "asked") == b"asked"
    monkeypatch.setenv("DATAPIPE_KEY_PASSPHRASE", "from the environment")
    assert find_passphrase(prompt=lambda: "asked") == b"from the environment"
    file = tmp_path / "passphrase"
    file.write_bytes(b"from a file\n")
    assert find_passphrase(file=file) == b"from a file"
    file.write_bytes(b"\n")
    assert code_of(find_passphrase, file=file) == Reason.KEY_PASSPHRASE
    assert code_of(find_passphrase, file=tmp_path / "none") == Reason.MISSING


def test_public_keys_are_given_away_and_read(tmp_path):
    key = HybridKey.new()
    path = tmp_path / "key.pub"
    path.write_text("".join(public.to_pem() for public in key.public_keys))
    assert load_public_keys(path) == key.public_keys
    assert code_of(PublicKey.from_pem, path.read_text()) == Reason.KEY_FORM
    for text in ("", "hello", path.read_text() + "-----BEGIN CERTIFICATE-----"):
        assert code_of(read_public_keys, text) == Reason.KEY_FORM
    damaged = PrivateKey.new("p256").public_key.to_pem().replace("M", "N", 1)
    assert code_of(read_public_keys, damaged) == Reason.KEY_FORM


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path):
    path = tmp_path / "key.pem"
    new_key("ed25519", path, PASSPHRASE, rounds=QUICK)
    assert code_of(load_public_keys, path) == Reason.KEY_FORM


def test_the_demo_key_is_made_once_by_many(tmp_path):
    found = []

    def ask():
        found.append(demo_key(tmp_path / "keys"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.keyid for key, _ in found}) == 1
    assert sum(created for _, created in found) == 1
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["demo-key.pem"]


def test_hardware_keys_need_three_things():
    """A signer is whatever has an id, an algorithm and `sign`."""
    from datapipe.manifest.envelope import Envelope

    inner = PrivateKey.new("p384")

    class Card:
        keyid, algorithm = inner.keyid, "p384"

        def sign(self, message: bytes) -> bytes:
            return inner.sign(message)

    assert Envelope.sign(b"{}", Card()).verify([inner.public_key]) == (inner.public_key,)
