# SPDX-License-Identifier: Apache-2.0
"""The example policies applied: each condition can be the one that refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from datapipe.manifest.bundle import sign_path
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.facts import Code, Material, Terms
from datapipe.manifest.judge import judge_envelope, name_of
from datapipe.manifest.keys import PrivateKey
from datapipe.manifest.policy import Policy, PolicyKey, Rule
from datapipe.manifest.predicates import DatasetPredicate, StepPredicate
from datapipe.manifest.statement import Statement, Subject
from datapipe.manifest.verify import verify_path

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
BYTES = {"sha256": "a" * 64}
DATA = Subject("rows.parquet", BYTES)
GOOD = DatasetPredicate(
    "reviews-2026",
    terms=Terms(("CC-BY-4.0",), {"ai_training": "allowed"}),
    declared_synthetic_share=0.1,
)


@pytest.fixture
def policies(root):
    folder = root / "manifests" / "policies"
    return {path.stem: Policy.load(path) for path in folder.glob("*.toml")}


def signed(predicate, *keys):
    return Envelope.sign(predicate.about(DATA).to_bytes(), *keys)


def reasons(policy, envelope, at=NOON, **options):
    checks = judge_envelope(policy, envelope, at=at, **options)
    return [check.code for check in checks if not check.passed]


def test_open_accepts_its_key_and_no_other(policies, person):
    policy = policies["open"]
    assert reasons(policy, signed(GOOD, person["ada"])) == []
    assert reasons(policy, signed(GOOD, person["bob"])) == [Reason.WRONG_KEY]
    assert reasons(policy, signed(GOOD, person["ada"], person["eve"])) == [Reason.UNKNOWN_SIGNER]


def test_what_no_rule_fits_is_refused(policies, person):
    step = StepPredicate("r", Code("dedup.exact", "1", "0" * 64), 7)
    assert reasons(policies["open"], signed(step, person["ada"])) == [Reason.NO_RULE]
    other = replace(GOOD, name="images")
    envelope = signed(other, person["ada"], person["bob"])
    assert reasons(policies["two-owners"], envelope) == [Reason.NO_RULE]


def test_two_owners_accepts_two_people(policies, person):
    assert reasons(policies["two-owners"], signed(GOOD, person["ada"], person["bob"])) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"terms": None}, Reason.LICENCE),
        ({"terms": Terms((), {"ai_training": "allowed"})}, Reason.LICENCE),
        (
            {"terms": Terms(("CC-BY-4.0", "Proprietary"), {"ai_training": "allowed"})},
            Reason.LICENCE,
        ),
        ({"terms": Terms(("CC0-1.0",), {})}, Reason.USE),
        ({"terms": Terms(("CC0-1.0",), {"ai_training": "constrained"})}, Reason.USE),
        ({"terms": Terms(("CC0-1.0",), {"ai_training": "notAllowed"})}, Reason.USE),
        ({"declared_synthetic_share": 0.3}, Reason.SYNTHETIC_SHARE),
        ({"declared_synthetic_share": None}, Reason.SYNTHETIC_UNKNOWN),
    ],
)
def test_each_term_can_refuse(policies, person, change, reason):
    envelope = signed(replace(GOOD, **change), person["ada"], person["bob"])
    assert reason in reasons(policies["two-owners"], envelope)


def test_owners_are_counted_not_keys(policies, person):
    policy = policies["two-owners"]
    second = PrivateKey.new("p256")
    entry = PolicyKey("ada", ("annotator",), second.public_keys)
    policy = replace(policy, keys=(*policy.keys, entry))
    envelope = signed(GOOD, person["ada"], second)
    assert reasons(policy, envelope) == [Reason.TOO_FEW_OWNERS]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2025, 12, 31, tzinfo=UTC), Reason.KEY_NOT_YET_VALID),
        (datetime(2028, 1, 2, tzinfo=UTC), Reason.KEY_EXPIRED),
    ],
)
def test_keys_have_their_time(policies, person, at, expected):
    envelope = signed(GOOD, person["ada"], person["bob"])
    assert reasons(policies["two-owners"], envelope, at=at) == [expected, Reason.TOO_FEW_OWNERS]


def test_a_revoked_key_counts_at_no_time(policies, person):
    envelope = signed(GOOD, person["bob"], person["cleo"])
    for at in (datetime(2026, 1, 2, tzinfo=UTC), NOON):
        found = reasons(policies["two-owners"], envelope, at=at)
        assert found == [Reason.KEY_REVOKED, Reason.TOO_FEW_OWNERS]


def test_a_revoked_key_beside_enough_others_is_told_and_passes(policies, person):
    envelope = signed(GOOD, person["ada"], person["bob"], person["cleo"])
    checks = judge_envelope(policies["two-owners"], envelope, at=NOON)
    assert all(check.passed for check in checks)
    assert any("key_revoked" in check.reason for check in checks)


def test_roles_are_asked_for(policies, person):
    envelope = signed(GOOD, person["ada"])
    rule = Rule(DatasetPredicate.uri, roles=("trainer",))
    policy = replace(policies["open"], rules=(rule,))
    assert reasons(policy, envelope) == [Reason.WRONG_ROLE, Reason.TOO_FEW_OWNERS]


@pytest.fixture
def gate(person, dora_hybrid):
    """A step whose input is attested, made a day before noon."""
    parent = signed(replace(GOOD, name="raw"), person["ada"])
    material = Material("raw", BYTES, attestation=parent.statement().digest)
    step = StepPredicate(
        "r1",
        Code("dedup.minhash", "1", "0" * 64),
        7,
        finished_at="2026-06-30T12:00:00Z",
        materials=(material,),
    )
    return step, parent, dora_hybrid


def test_the_train_gate_accepts_an_attested_step(policies, gate):
    step, parent, dora = gate
    assert reasons(policies["train-gate"], signed(step, dora), parents=[parent]) == []


def test_the_train_gate_wants_both_classes(policies, gate, person):
    step, parent, _ = gate
    envelope = signed(step, person["dora"])
    found = reasons(policies["train-gate"], envelope, parents=[parent])
    assert found == [Reason.ALGORITHM_CLASS]


def test_the_train_gate_wants_fresh_statements(policies, gate):
    step, parent, dora = gate
    envelope, policy = signed(step, dora), policies["train-gate"]
    late = NOON + timedelta(days=100)
    assert reasons(policy, envelope, at=late, parents=[parent]) == [Reason.TOO_OLD]
    undated = signed(replace(step, finished_at=None), dora)
    assert reasons(policy, undated, parents=[parent]) == [Reason.TOO_OLD]
    tomorrow = signed(replace(step, finished_at="2026-07-02T12:00:00Z"), dora)
    assert reasons(policy, tomorrow, parents=[parent]) == [Reason.TOO_OLD]


def test_the_train_gate_wants_parents(policies, gate, person):
    step, parent, dora = gate
    policy, envelope = policies["train-gate"], signed(step, dora)
    assert reasons(policy, envelope) == [Reason.PARENT_MISSING]
    assert reasons(policy, signed(replace(step, materials=()), dora), parents=[parent]) == [
        Reason.PARENT_MISSING
    ]
    loose = replace(step, materials=(replace(step.materials[0], attestation=None),))
    assert reasons(policy, signed(loose, dora), parents=[parent]) == [Reason.PARENT_MISSING]
    forged = signed(replace(GOOD, name="raw"), person["eve"])
    linked = replace(step.materials[0], attestation=forged.statement().digest)
    envelope = signed(replace(step, materials=(linked,)), dora)
    assert reasons(policy, envelope, parents=[forged]) == [Reason.PARENT_REFUSED]


def test_a_parent_must_be_about_the_same_bytes(policies, gate):
    step, parent, dora = gate
    other = replace(step.materials[0], digest={"sha256": "b" * 64})
    envelope = signed(replace(step, materials=(other,)), dora)
    found = reasons(policies["train-gate"], envelope, parents=[parent])
    assert found == [Reason.PARENT_REFUSED]


def test_a_chain_is_walked_to_its_source(policies, gate, person):
    step, parent, dora = gate
    first = signed(step, dora)
    material = Material("rows", BYTES, attestation=first.statement().digest)
    second = replace(step, code=Code("labels.noise", "1", "0" * 64), materials=(material,))
    policy, envelope = policies["train-gate"], signed(second, dora)
    assert reasons(policy, envelope, parents=[parent, first]) == []
    assert reasons(policy, envelope, parents=[first]) == [Reason.PARENT_REFUSED]


def test_unknown_signatures_may_be_passed_over(policies, gate, person):
    step, parent, dora = gate
    envelope = signed(step, dora, person["eve"])
    assert reasons(policies["train-gate"], envelope, parents=[parent]) == []
    strict = replace(policies["train-gate"], unknown_signatures="refuse")
    assert reasons(strict, envelope, parents=[parent]) == [Reason.UNKNOWN_SIGNER]


def test_a_predicate_with_unknown_fields_is_refused(policies, person):
    said = GOOD.about(DATA)
    form = {**said.predicate, "trusted": True}
    statement = Statement(said.subjects, said.predicate_type, form)
    envelope = Envelope.sign(statement.to_bytes(), person["ada"], person["bob"])
    assert reasons(policies["two-owners"], envelope) == [Reason.UNKNOWN_FIELD]


def test_names_by_which_rules_find_statements():
    subject = (Subject("s", BYTES),)
    for predicate, name in (
        ({"name": "n"}, "n"),
        ({"pipeline": "p"}, "p"),
        ({"of": "o"}, "o"),
        ({"code": {"stage": "c"}}, "c"),
        ({"name": 1}, "s"),
    ):
        assert name_of(Statement(subject, "a:b", predicate)) == name


def test_a_policy_on_a_folder(policies, reviews, person):
    good = replace(GOOD, name="reviews")
    sign_path(reviews, person["ada"], person["bob"], predicate=good)
    policy = policies["two-owners"]
    assert verify_path(reviews, policy=policy, at=NOON).passed
    late = verify_path(reviews, policy=policy, at=NOON + timedelta(days=1000))
    assert late.failed[0].code == Reason.KEY_EXPIRED
    (reviews / "rows.csv").write_bytes(b"poison")
    assert verify_path(reviews, policy=policy, at=NOON).failed[-1].code == Reason.CHANGED


def test_a_revoked_key_on_the_bundle_beside(reviews, person):
    curve = PrivateKey.new("p256")
    keys = (
        PolicyKey("ada", ("source",), person["ada"].public_keys),
        PolicyKey("bob", ("source",), curve.public_keys),
    )
    policy = Policy("p", 1, keys, (Rule(DatasetPredicate.uri),))
    sign_path(reviews, person["ada"], curve)
    assert verify_path(reviews, policy=policy, at=NOON).passed
    gone = replace(policy, keys=(keys[0], replace(keys[1], revoked_at=NOON)))
    failed = verify_path(reviews, policy=gone, at=NOON).failed
    assert [check.code for check in failed] == [Reason.KEY_REVOKED]
