# SPDX-License-Identifier: Apache-2.0
"""Policies change hands as in TUF: never back, and only by those whom the version before names."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from datapipe.errors import DatapipeError, DeclarationError, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.keys import HybridKey, PrivateKey
from datapipe.manifest.policy import Policy, sign_policy
from datapipe.manifest.policy_signatures import POLICY_TYPE, signature_file
from datapipe.manifest.rotation import load_policy

AT = datetime(2026, 7, 1, tzinfo=UTC)
KEYS = {name: PrivateKey.new("ed25519") for name in ("ada", "bob", "cleo", "eve")}


def pem(*names):
    return "".join(KEYS[name].public_key.to_pem() for name in names)


@pytest.fixture
def home(tmp_path):
    class Home:
        path, memory = tmp_path / "trust.toml", tmp_path / "ring" / "seen.json"

        def write(self, version, signers=(), threshold=1, *, signed_by=(), more=""):
            text = f'name = "reviews"\nversion = {version}\n{more}'
            if signers:
                text += f'[signers]\nthreshold = {threshold}\npublic = """{pem(*signers)}"""\n'
            self.path.write_text(text)
            signature_file(self.path).unlink(missing_ok=True)
            if signed_by:
                sign_policy(self.path, *(KEYS[name] for name in signed_by))

        def load(self, *names, at=AT, threshold=1):
            keys = [KEYS[name].public_key for name in names]
            found = load_policy(
                self.path, memory=self.memory, at=at, signed_by=keys, threshold=threshold
            )
            return found.version

        def refused(self, *names, **options):
            with pytest.raises(TrustError) as caught:
                self.load(*names, **options)
            return caught.value.code

    return Home()


def test_an_older_version_is_refused_for_ever(home):
    for version in (1, 2, 5):
        home.write(version)
        assert home.load() == version
        assert home.load() == version
    for version in (4, 1):
        home.write(version)
        assert home.refused() == Reason.POLICY_ROLLBACK
    home.write(5, more='unknown_signatures = "ignore"\n')
    assert home.refused() == Reason.POLICY_FORKED


def test_other_policies_are_remembered_apart(home, tmp_path):
    home.write(7)
    home.load()
    other = tmp_path / "other.toml"
    other.write_text('name = "images"\nversion = 1\n')
    assert load_policy(other, memory=home.memory, at=AT).version == 1
    assert home.load() == 7


def test_the_first_version_is_signed_as_asked_and_by_its_own_signers(home):
    home.write(1, ["ada", "bob"], 2, signed_by=["ada"])
    assert home.refused("ada") == Reason.POLICY_UNSIGNED  # its own threshold is two
    home.write(1, ["ada", "bob"], 2, signed_by=["ada", "bob"])
    assert home.refused("eve") == Reason.POLICY_UNSIGNED
    assert home.refused("ada", "eve", threshold=2) == Reason.POLICY_UNSIGNED
    assert not home.memory.exists()
    assert home.load("ada", "bob", threshold=2) == 1


def test_a_new_version_is_signed_by_the_old_and_the_new_signers(home):
    home.write(1, ["ada", "bob"], 2, signed_by=["ada", "bob"])
    home.load("ada")
    for signed_by in ([], ["cleo", "eve"], ["ada", "cleo"], ["ada", "bob"]):
        home.write(2, ["ada", "cleo"], 2, signed_by=signed_by)
        assert home.refused("ada") == Reason.POLICY_UNSIGNED, signed_by
    home.write(2, ["ada", "cleo"], 2, signed_by=["ada", "bob", "cleo"])
    assert home.load() == 2
    # Bob left: he and a stolen key cannot bring themselves back
    home.write(3, ["bob", "eve"], 1, signed_by=["ada", "bob", "eve"])
    assert home.refused() == Reason.POLICY_UNSIGNED
    home.write(3, ["cleo"], 1, signed_by=["ada", "cleo"])
    assert home.load() == 3


def test_one_person_with_a_hybrid_key_is_one_signer(home):
    key = HybridKey.new()
    public = "".join(part.to_pem() for part in key.public_keys)
    text = f'name = "reviews"\nversion = 1\n[signers]\nthreshold = 2\npublic = """{public}{{}}"""\n'
    with pytest.raises(DeclarationError, match=r"threshold must be within 1\.\.1"):
        Policy.parse(text.format(""))
    home.path.write_text(text.format(pem("ada")))
    sign_policy(home.path, key)
    assert home.refused() == Reason.POLICY_UNSIGNED
    sign_policy(home.path, key, KEYS["ada"])
    assert home.load() == 1
    with pytest.raises(TrustError):
        Policy.load(home.path, signed_by=key.public_keys, threshold=2)


def test_an_ended_policy_is_refused(home):
    home.write(1, more="valid_until = 2026-12-31T00:00:00Z\n")
    assert home.load() == 1
    assert home.refused(at=datetime(2027, 1, 1, tzinfo=UTC)) == Reason.POLICY_EXPIRED


def test_a_signature_over_another_text_or_type_is_none(home):
    home.write(1, ["ada"], signed_by=["ada"])
    data = home.path.read_bytes()
    for payload, kind in ((data + b"#", POLICY_TYPE), (data, "text/plain")):
        envelope = Envelope.sign(payload, KEYS["ada"], payload_type=kind)
        signature_file(home.path).write_bytes(envelope.to_bytes())
        assert home.refused("ada") == Reason.POLICY_UNSIGNED


def test_a_damaged_memory_is_refused_and_not_begun_anew(home):
    home.write(3)
    home.load()
    for text in ("", "{}", '{"version":1,"policies":{"reviews":{"version":-1}}}'):
        home.memory.write_text(text)
        with pytest.raises(DatapipeError) as caught:
            home.load()
        assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("valid_until = 2027-01-01T00:00:00\n", "valid_until"),
        ('valid_until = "2027"\n', "valid_until"),
        ("[signers]\nthreshold = 1\n", r"\[signers\]"),
        ('[signers]\npublic = "x"\nwho = "me"\n', r"\[signers\]"),
        (f'[signers]\nthreshold = 0\npublic = """{pem("ada")}"""\n', "threshold"),
        (f'[signers]\nthreshold = 2\npublic = """{pem("ada")}"""\n', "threshold"),
        (f'[signers]\nthreshold = true\npublic = """{pem("ada")}"""\n', "threshold"),
    ],
)
def test_mistakes_are_told(more, says):
    with pytest.raises(DeclarationError, match=says):
        Policy.parse(f'name = "p"\nversion = 1\n{more}')
