# SPDX-License-Identifier: Apache-2.0
"""A statement before a trust policy: every condition of every rule that fits gets an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from datapipe.errors import TrustError
from datapipe.manifest.checks import Check, Reason
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.policy import ANY_PREDICATE, Policy, PolicyKey, Rule
from datapipe.manifest.predicates import PREDICATES, read_predicate
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.statement import Statement


@dataclass(frozen=True, slots=True)
class Case:
    """A statement with what is needed to judge it.

    Args:
        statement: The statement.
        signers: The keys whose signatures of it were verified.
        at: The time of judgement, with its zone.
        parents: Statement digest to the envelope of that statement, for its materials.
        above: Digests of the statements that ask for this one, so that no circle is walked.

    Example:
        >>> from datapipe.manifest.predicates import DatasetPredicate
        >>> from datapipe.manifest.statement import Subject
        >>> said = DatasetPredicate("a").about(Subject("a", {"sha256": "0" * 64}))
        >>> Case(said, (), datetime.now(UTC)).parents
        {}
    """

    statement: Statement
    signers: tuple[PublicKey, ...]
    at: datetime
    parents: Mapping[str, Envelope] = field(default_factory=dict)
    above: frozenset[str] = frozenset()


def judge_envelope(
    policy: Policy, envelope: Envelope, *, at: datetime, parents: Iterable[Envelope] = ()
) -> tuple[Check, ...]:
    """Verify an envelope with the keys of a policy and judge its statement.

    Args:
        policy: The policy.
        envelope: The signed statement.
        at: The time of judgement, with its zone.
        parents: Envelopes of the statements about its materials.

    Returns:
        The checks: the signatures first, then the rules.

    Example:
        >>> from datapipe.manifest.keys import PrivateKey
        >>> from datapipe.manifest.predicates import DatasetPredicate
        >>> from datapipe.manifest.statement import Subject
        >>> key = PrivateKey.new("ed25519")
        >>> said = DatasetPredicate("a").about(Subject("a", {"sha256": "0" * 64}))
        >>> policy = Policy("p", 1, (PolicyKey("ada", ("source",), key.public_keys),), ())
        >>> envelope = Envelope.sign(said.to_bytes(), key)
        >>> judge_envelope(policy, envelope, at=datetime.now(UTC))[-1].code.slug
        'no_rule'
    """
    known = {parent.statement().digest: parent for parent in parents}
    return _judge_signed(policy, envelope, at, known, frozenset())


def judge(policy: Policy, case: Case) -> tuple[Check, ...]:
    """Judge a statement whose signatures were verified.

    Args:
        policy: The policy.
        case: The statement with its signers.

    Returns:
        One check for each condition of each rule that fits; a single refusal when none fits.

    Example:
        >>> from datapipe.manifest.predicates import DatasetPredicate
        >>> from datapipe.manifest.statement import Subject
        >>> said = DatasetPredicate("a").about(Subject("a", {"sha256": "0" * 64}))
        >>> case = Case(said, (), datetime.now(UTC))
        >>> [c.code.slug for c in judge(Policy("p", 1, (), (Rule("*"),)), case)]
        ['too_few_owners']
    """
    kind, name = case.statement.predicate_type, name_of(case.statement)
    fitting = fitting_rules(policy, case.statement)
    if not fitting:
        what = f"no rule of {policy.name!r} is for {name!r} of type {kind}"
        return (Check.refused("policy", what, Reason.NO_RULE),)
    try:
        said = _facts(case.statement)
    except TrustError as error:
        return (Check.refused("predicate", error.message, Reason(error.code)),)
    checks: list[Check] = []
    for number, rule in enumerate(fitting, 1):
        label = f"rule {number}" if len(fitting) > 1 else "policy"
        checks += _judge_rule(policy, rule, case, said, label)
    return tuple(checks)


def fitting_rules(policy: Policy, statement: Statement) -> tuple[Rule, ...]:
    """The rules of a policy that are for a statement; all of them must hold.

    Args:
        policy: The policy.
        statement: The statement.

    Returns:
        Rules in the policy's order; none means that the statement is refused.

    Example:
        >>> from datapipe.manifest.statement import Subject
        >>> said = Statement((Subject("a", {"sha256": "0" * 64}),), "a:b", {})
        >>> len(fitting_rules(Policy("p", 1, (), (Rule("*"), Rule("c:d"))), said))
        1
    """
    kind, name = statement.predicate_type, name_of(statement)
    return tuple(
        rule
        for rule in policy.rules
        if rule.predicate in (ANY_PREDICATE, kind)
        and any(fnmatchcase(name, pattern) for pattern in rule.names)
    )


def name_of(statement: Statement) -> str:
    """The name by which rules find a statement.

    Args:
        statement: The statement.

    Returns:
        The name in its predicate (data set, pipeline, stage or what was evaluated), else that of
        its first subject.

    Example:
        >>> from datapipe.manifest.statement import Subject
        >>> name_of(Statement((Subject("a", {"sha256": "0" * 64}),), "a:b", {}))
        'a'
    """
    said = statement.predicate
    code = said.get("code")
    stage = code.get("stage") if isinstance(code, dict) else None
    for found in (said.get("name"), said.get("pipeline"), said.get("of"), stage):
        if isinstance(found, str) and found:
            return found
    return statement.subjects[0].name


def _judge_signed(
    policy: Policy,
    envelope: Envelope,
    at: datetime,
    parents: Mapping[str, Envelope],
    above: frozenset[str],
) -> tuple[Check, ...]:
    try:
        ignore = policy.unknown_signatures == "ignore"
        signers = envelope.verify(policy.public_keys, allow_unknown=ignore)
        statement = envelope.statement()
    except TrustError as error:
        return (Check.refused("signature", error.message, Reason(error.code)),)
    held = Check.held("signature", f"{len(signers)} signatures hold")
    return (held, *judge(policy, Case(statement, signers, at, parents, above)))


def _judge_rule(
    policy: Policy, rule: Rule, case: Case, said: Mapping[str, Any], label: str
) -> list[Check]:
    checks = _judge_owners(policy, rule, case, label)
    if rule.licences:
        checks.append(_judge_licences(rule, said, label))
    if rule.uses:
        checks.append(_judge_uses(rule, said, label))
    if rule.max_synthetic_share is not None:
        checks.append(_judge_synthetic(rule.max_synthetic_share, said, label))
    if rule.max_age_days is not None:
        checks.append(_judge_age(rule.max_age_days, said, case.at, label))
    if rule.parents:
        checks += _judge_parents(policy, rule, case, said.get("materials", ()), label)
    return checks


def _judge_owners(policy: Policy, rule: Rule, case: Case, label: str) -> list[Check]:
    """Count owners, not keys: one person with three keys is one person."""
    strengths: dict[str, set[str]] = {}
    uncounted: list[tuple[str, Reason]] = []
    for public in case.signers:
        key = policy.owner_of(public.keyid)
        problem = _why_not(key, rule, case.at)
        if key is None or problem is not None:
            owner = key.owner if key else public.keyid[:12]
            uncounted.append((owner, problem or Reason.UNKNOWN_SIGNER))
        else:
            strengths.setdefault(key.owner, set()).add(public.strength)
    full = [owner for owner, used in strengths.items() if used >= set(rule.strengths)]
    if len(full) >= rule.owners:
        checks = [Check.held(f"{label}: owners", f"signed by {', '.join(sorted(full))}")]
        return checks + [
            Check.held(f"{label}: owners", f"the signature of {owner} is not counted: {why.slug}")
            for owner, why in uncounted
        ]
    if len(strengths) >= rule.owners:
        what = f"each owner must sign with {' and '.join(rule.strengths)} keys"
        return [Check.refused(f"{label}: owners", what, Reason.ALGORITHM_CLASS)]
    checks = [
        Check.refused(f"{label}: owners", f"the signature of {owner} is not counted", why)
        for owner, why in uncounted
    ]
    counted = f"signed by {len(strengths)} owners that count, {rule.owners} needed"
    return [*checks, Check.refused(f"{label}: owners", counted, Reason.TOO_FEW_OWNERS)]


def _why_not(key: PolicyKey | None, rule: Rule, at: datetime) -> Reason | None:
    if key is None:
        return Reason.UNKNOWN_SIGNER
    problem = key.problem(at)
    if problem is None and rule.roles and not set(rule.roles) & set(key.roles):
        return Reason.WRONG_ROLE
    return problem


def _facts(statement: Statement) -> Mapping[str, Any]:
    """What one of our predicates states, its form checked; of other types we know nothing."""
    if any(cls.uri == statement.predicate_type for cls in PREDICATES.values()):
        return read_predicate(statement).to_json()
    return {}


def _judge_licences(rule: Rule, said: Mapping[str, Any], label: str) -> Check:
    stated = set((said.get("terms") or {}).get("licences", ()))
    foreign = sorted(stated - set(rule.licences))
    if stated and not foreign:
        return Check.held(f"{label}: licences", ", ".join(sorted(stated)))
    what = f"not allowed: {', '.join(foreign)}" if foreign else "no licence is stated"
    return Check.refused(f"{label}: licences", what, Reason.LICENCE)


def _judge_uses(rule: Rule, said: Mapping[str, Any], label: str) -> Check:
    stated = (said.get("terms") or {}).get("uses", {})
    denied = [f"{use}: {stated.get(use, 'not stated')}" for use in rule.uses]
    denied = [text for text in denied if not text.endswith(": allowed")]
    if not denied:
        return Check.held(f"{label}: uses", f"{', '.join(rule.uses)} allowed")
    return Check.refused(f"{label}: uses", "; ".join(denied), Reason.USE)


def _judge_synthetic(largest: float, said: Mapping[str, Any], label: str) -> Check:
    share = said.get("declaredSyntheticShare")
    if share is None:
        what = "nobody said how much of it is synthetic"
        return Check.refused(f"{label}: synthetic", what, Reason.SYNTHETIC_UNKNOWN)
    what = f"declared synthetic share {share:g}, at most {largest:g} allowed"
    if share > largest:
        return Check.refused(f"{label}: synthetic", what, Reason.SYNTHETIC_SHARE)
    return Check.held(f"{label}: synthetic", what)


def _judge_age(days: float, said: Mapping[str, Any], at: datetime, label: str) -> Check:
    stated = said.get("recordedAt") or said.get("finishedAt")
    if not isinstance(stated, str):
        what = "it does not say when it was made"
        return Check.refused(f"{label}: age", what, Reason.TOO_OLD)
    age = at.astimezone(UTC) - datetime.fromisoformat(stated)
    what = f"made {age / timedelta(days=1):.1f} days ago, {days:g} allowed"
    if timedelta(minutes=-5) <= age <= timedelta(days=days):
        return Check.held(f"{label}: age", what)
    return Check.refused(f"{label}: age", what, Reason.TOO_OLD)


def _judge_parents(
    policy: Policy, rule: Rule, case: Case, materials: Sequence[Mapping[str, Any]], label: str
) -> list[Check]:
    """Each material must have a statement of an allowed type that this same policy accepts."""
    if not materials:
        what = "it names no material"
        return [Check.refused(f"{label}: parents", what, Reason.PARENT_MISSING)]
    return [_judge_parent(policy, rule, case, material, label) for material in materials]


def _judge_parent(
    policy: Policy, rule: Rule, case: Case, material: Mapping[str, Any], label: str
) -> Check:
    name, digest = f"{label}: parent {material.get('name')!r}", material.get("attestation", "")
    envelope = case.parents.get(digest)
    if envelope is None or digest in case.above:
        return Check.refused(name, "no statement about it was given", Reason.PARENT_MISSING)
    statement = envelope.statement()
    if statement.predicate_type not in rule.parents:
        what = f"its statement is of type {statement.predicate_type}"
        return Check.refused(name, what, Reason.PARENT_REFUSED)
    stated = material.get("digest", {}).items()
    if not any(
        pair in subject.digests.items() for subject in statement.subjects for pair in stated
    ):
        return Check.refused(name, "its statement is about other bytes", Reason.PARENT_REFUSED)
    above = case.above | {case.statement.digest}
    checks = _judge_signed(policy, envelope, case.at, case.parents, above)
    failed = [check for check in checks if not check.passed]
    if failed:
        what = f"{failed[0].name}: {failed[0].reason}"
        return Check.refused(name, what, Reason.PARENT_REFUSED)
    return Check.held(name, "its statement is accepted")
