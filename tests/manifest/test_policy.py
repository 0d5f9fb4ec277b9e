# SPDX-License-Identifier: Apache-2.0
"""Policies: read strictly, signed, and never rolled back."""

from __future__ import annotations

import pytest

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.policy import Policy, sign_policy

HEAD = 'name = "p"\nversion = 2\n'


@pytest.mark.parametrize("name", ["open", "two-owners", "train-gate"])
def test_the_published_examples_are_read(root, name):
    policy = Policy.load(root / "manifests" / "policies" / f"{name}.toml")
    assert policy.name == name
    assert policy.rules
    assert policy.public_keys


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "not TOML"),
        ('name = "p"', "version"),
        ('name = "p"\nversion = 0', "version"),
        (HEAD + "treshold = 2", "unknown entry 'treshold'"),
        (HEAD + 'unknown_signatures = "maybe"', "refuse or ignore"),
        (HEAD + 'key = "x"', "[[key]]"),
        (HEAD + '[[rule]]\npredicat = "dataset"', "did you mean 'predicate'"),
        (HEAD + '[[rule]]\npredicate = "datset"', "no predicate 'datset'"),
        (HEAD + '[[rule]]\npredicate = "dataset"\nowners = 0', "owners >= 1"),
        (HEAD + '[[rule]]\npredicate = "dataset"\nowners = true', "wrong type"),
        (HEAD + '[[rule]]\npredicate = "dataset"\nowners = "2"', "wrong type"),
        (HEAD + '[[rule]]\npredicate = "dataset"\nmax_synthetic_share = 20', "within [0, 1]"),
        (HEAD + '[[rule]]\npredicate = "dataset"\nroles = ["boss"]', "role 'boss'"),
        (HEAD + '[[rule]]\npredicate = "dataset"\nstrengths = ["strong"]', "strength 'strong'"),
        (HEAD + '[[rule]]\npredicate = "dataset"\nlicences = "MIT"', "wrong type"),
        (HEAD + '[[key]]\nowner = "ada"', "`public` is missing"),
    ],
)
def test_a_mistake_is_told(text, says):
    with pytest.raises(DeclarationError) as caught:
        Policy.parse(text)
    assert says in str(caught.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(DeclarationError) as caught:
        Policy.parse('[[rule]]\npredicate = "dataset"\nowners = 0\nlicence = []\n[[key]]\n')
    assert len(caught.value.problems) >= 5


def test_times_need_a_zone_and_keys_are_listed_once(person):
    pem = person["ada"].public_key.to_pem()
    key = f'[[key]]\nowner = "ada"\nroles = ["source"]\npublic = """{pem}"""\n'
    assert Policy.parse(HEAD + key).keys[0].owner == "ada"
    with pytest.raises(DeclarationError, match="time zone"):
        Policy.parse(HEAD + key + "valid_until = 2027-01-01T00:00:00")
    with pytest.raises(DeclarationError, match="wrong type"):
        Policy.parse(HEAD + key + 'valid_until = "2027-01-01"')
    with pytest.raises(DeclarationError, match="twice"):
        Policy.parse(HEAD + key + key)
    with pytest.raises(TrustError):
        Policy.parse(HEAD + '[[key]]\nowner = "a"\nroles = ["source"]\npublic = "x"')


@pytest.fixture
def signed(tmp_path, person):
    path = tmp_path / "policy.toml"
    path.write_text(HEAD)
    sign_policy(path, person["ada"], person["bob"])
    return path


def code_of(path, **options):
    with pytest.raises(TrustError) as caught:
        Policy.load(path, **options)
    return caught.value.code


def test_a_signed_policy_is_accepted(signed, person):
    keys = [person["ada"].public_key, person["bob"].public_key]
    assert Policy.load(signed, signed_by=keys, threshold=2).version == 2


def test_a_policy_signed_otherwise_is_refused(signed, person):
    keys = [person["ada"].public_key, person["bob"].public_key]
    assert code_of(signed, signed_by=keys[:1]) == Reason.POLICY_UNSIGNED
    assert code_of(signed, signed_by=keys, threshold=3) == Reason.POLICY_UNSIGNED
    signed.write_text(HEAD + '[[rule]]\npredicate = "*"\n')
    assert code_of(signed, signed_by=keys) == Reason.POLICY_UNSIGNED
    signed.with_name("policy.toml.dsse.json").unlink()
    assert code_of(signed, signed_by=keys) == Reason.POLICY_UNSIGNED


def test_a_statement_is_no_policy_signature(signed, person):
    from datapipe.manifest.envelope import Envelope

    envelope = Envelope.sign(HEAD.encode(), person["ada"])
    signed.with_name("policy.toml.dsse.json").write_bytes(envelope.to_bytes())
    keys = [person["ada"].public_key]
    assert code_of(signed, signed_by=keys) == Reason.POLICY_UNSIGNED


def test_an_older_version_is_refused(signed):
    assert Policy.load(signed, highest_seen=2).version == 2
    assert code_of(signed, highest_seen=3) == Reason.POLICY_ROLLBACK
