# SPDX-License-Identifier: Apache-2.0
"""`keys`, `sign` and `verify`: what was signed is believed, what was changed is named."""

from __future__ import annotations

import pytest

WORDS = "correct horse battery"


@pytest.fixture
def secret(here, monkeypatch):
    monkeypatch.setenv("DATAPIPE_KEY_PASSPHRASE", WORDS)
    return here


@pytest.mark.parametrize("algorithm", ["ed25519", "p256", "p384", "p521", "ml-dsa-65", "hybrid"])
def test_a_key_is_written_encrypted_and_its_public_half_exported(datapipe, secret, algorithm):
    answer = datapipe("keys", "new", "--algorithm", algorithm, "--out", "key.pem", "--json")
    assert answer.code == 0
    assert len(answer.json["keyids"]) == (3 if algorithm == "hybrid" else 1)
    assert sorted(p.name for p in secret.iterdir()) == ["key.pem"]
    text = (secret / "key.pem").read_text()
    assert text.startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert (secret / "key.pem").stat().st_mode & 0o077 == 0
    public = datapipe("keys", "export", "key.pem")
    assert public.code == 0
    assert public.out.startswith("-----BEGIN PUBLIC KEY-----")
    assert "PRIVATE" not in public.out
    assert WORDS not in answer.out + answer.err + public.out + public.err


def test_a_key_is_never_overwritten_and_needs_a_passphrase(datapipe, secret, monkeypatch):
    assert datapipe("keys", "new", "--out", "key.pem").code == 0
    before = (secret / "key.pem").read_bytes()
    assert datapipe("keys", "new", "--out", "key.pem").code == 2
    assert (secret / "key.pem").read_bytes() == before
    monkeypatch.delenv("DATAPIPE_KEY_PASSPHRASE")
    answer = datapipe("keys", "new", "--out", "other.pem")
    assert answer.code == 4
    assert "--passphrase-file" in answer.err
    (secret / "words").write_text(WORDS + "\n")
    assert datapipe("keys", "export", "key.pem", "--passphrase-file", "words").code == 0
    (secret / "words").write_text("wrong")
    assert datapipe("keys", "export", "key.pem", "--passphrase-file", "words").code == 4


def test_the_ring_lists_rotates_and_revokes(datapipe, secret):
    ring = ("--ring", "ring")
    first = datapipe("keys", "new", "--owner", "ada", *ring, "--json").json["keyids"][0]
    fresh = datapipe("keys", "rotate", first[:12], "--overlap", 0, *ring, "--json").json["keyids"][
        0
    ]
    states = {k["keyid"]: k for k in datapipe("keys", "list", *ring, "--json").json["keys"]}
    assert states[first]["valid_until"] is not None
    assert (states[fresh]["state"], states[fresh]["owner"]) == ("valid", "ada")
    assert datapipe("keys", "revoke", fresh[:12], "--reason", "laptop lost", *ring).code == 0
    listed = datapipe("keys", "list", *ring)
    assert "revoked" in listed.out
    assert datapipe("keys", "revoke", "nothing", "--reason", "x", *ring).code == 2


def test_a_signed_folder_verifies_until_a_byte_changes(datapipe, secret):
    (secret / "data").mkdir()
    (secret / "data" / "a.csv").write_text("x\n1\n")
    assert datapipe("keys", "new", "--out", "key.pem").code == 0
    (secret / "key.pub").write_text(datapipe("keys", "export", "key.pem").out)
    signed = datapipe("sign", "data", "--key", "key.pem")
    assert signed.code == 0
    assert (secret / "data.oms.sigstore.json").is_file()
    assert (secret / "data.dsse.json").is_file()
    held = datapipe("verify", "data", "--key", "key.pub")
    assert held.code == 0, held.err
    (secret / "data" / "a.csv").write_text("x\n2\n")
    broken = datapipe("verify", "data", "--key", "key.pub", "--json")
    assert broken.code == 4
    assert "a.csv" in broken.err
    assert broken.json["passed"] is False


def test_nobody_is_believed_without_a_key(datapipe, secret):
    (secret / "a.csv").write_text("x\n1\n")
    assert datapipe("keys", "new", "--out", "key.pem").code == 0
    assert datapipe("sign", "a.csv", "--key", "key.pem").code == 0
    answer = datapipe("verify", "a.csv")
    assert answer.code == 4
    assert "--key" in answer.err


def test_what_was_never_signed_does_not_pass(datapipe, secret):
    (secret / "a.csv").write_text("x\n1\n")
    assert datapipe("keys", "new", "--out", "key.pem").code == 0
    answer = datapipe("verify", "a.csv", "--key", "key.pem")
    assert answer.code == 4
    assert datapipe("sign", "a.csv").code == 2  # no key is named
    (secret / "empty").mkdir()
    assert datapipe("sign", "empty", "--key", "key.pem").code == 4


def test_two_people_sign_one_data_set_and_a_policy_counts_them(datapipe, secret):
    (secret / "data").mkdir()
    (secret / "data" / "a.csv").write_text("x\n1\n")
    owners = ""
    for name in ("ada", "bob"):
        assert datapipe("keys", "new", "--algorithm", "ed25519", "--out", f"{name}.pem").code == 0
        public = datapipe("keys", "export", f"{name}.pem").out
        owners += f'[[key]]\nowner = "{name}"\nroles = ["source"]\npublic = """{public}"""\n'
    rule = '[[rule]]\npredicate = "dataset"\nowners = 2\n'
    (secret / "two.toml").write_text(f'name = "two"\nversion = 1\n{owners}{rule}')
    judged = ("verify", "data", "--policy", "two.toml", "--ring", "ring")
    assert datapipe("sign", "data", "--key", "ada.pem", "--add").code == 4  # nothing to add to
    assert datapipe("sign", "data", "--key", "ada.pem").code == 0
    assert datapipe(*judged).code == 4
    assert datapipe("sign", "data", "--key", "ada.pem", "--add").code == 2  # once is enough
    added = datapipe("sign", "data", "--key", "bob.pem", "--add", "--json")
    assert (added.code, added.json["files"]) == (0, 1)
    assert datapipe(*judged).code == 0
    (secret / "data" / "a.csv").write_text("x\n2\n")
    assert datapipe("keys", "new", "--algorithm", "p256", "--out", "eve.pem").code == 0
    assert datapipe("sign", "data", "--key", "eve.pem", "--add").code == 4  # not what was attested
