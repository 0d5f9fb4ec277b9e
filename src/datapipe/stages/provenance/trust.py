# SPDX-License-Identifier: Apache-2.0
"""`RequireTrust`: nothing is trained on that a signed policy does not allow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from datapipe.core.ancestry import origins
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding
from datapipe.core.parameters import AnyPath, Paths
from datapipe.core.source import Source, TrustState
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.errors import TrustError
from datapipe.manifest.bundle import signature_paths
from datapipe.manifest.checks import Check, Reason
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.judge import fitting_rules
from datapipe.manifest.keys import load_public_keys
from datapipe.manifest.policy import Policy
from datapipe.manifest.rotation import load_policy
from datapipe.manifest.verify import verify_path
from datapipe.stages.provenance._signatures import digest_of, signed_paths, signer_of
from datapipe.stages.provenance._sources import named, present, rows_of, share
from datapipe.stages.provenance._spdx import allows


@dataclass(frozen=True)
class RequireTrust(Stage):
    """Refuses sources that a trust policy does not allow, before anything is trained on them.

    *Method:* for each source of which a row is left, the statement beside its files is verified and
    judged by the policy: signed by enough owners of the right roles whose keys are within their
    dates and not revoked, about these very bytes, with allowed licences and uses, with signed
    parents where the policy asks for them, and not too much of it declared synthetic. What the
    reader declares counts too: a denied consent, another licence, synthetic rows. What is not
    stated is not allowed. The first reason for refusing is the code of the error.
    *Assumes:* the policy, or the keys that sign it, reached you by another way than the data.
    *Choose it when:* a model is trained on what others supply; put it right before the training.
    *Fails when:* the policy allows too much; a trusted signer states what is not true.
    *Cost:* one SHA-256 pass over the files of the sources; rows are not read.

    Args:
        policy: Path of the policy (TOML).
        signed_by: Paths of public keys (PEM) of which one must have signed the policy when it is
            met first; later versions are signed by those whom the version before names.
        memory: Path of the file that remembers the newest version seen; none when empty.
        at: The time of judgement, such as `2026-07-01T12:00:00Z`; now when empty.
        on_finding: What becomes of rows of sources that are refused; `stop` raises the reason.

    Example:
        >>> RequireTrust().check()
        ['provenance.trust: no policy is named, and without one nothing may be trusted']

    References:
        Torres-Arias, Afzali, Kuppusamy, Curtmola & Cappos, 2019, in-toto: providing farm-to-table
        guarantees for bits and bytes.
    """

    policy: AnyPath = ""
    signed_by: Paths = ()
    memory: AnyPath = ""
    at: str = ""
    on_finding: OnSuspect = "stop"

    name: ClassVar[str] = "provenance.trust"
    raises_findings: ClassVar[tuple[str, ...]] = ("provenance.untrusted",)
    references: ClassVar[tuple[str, ...]] = (
        "Torres-Arias, Afzali, Kuppusamy, Curtmola & Cappos, 2019, in-toto",
    )

    def check(self) -> list[str]:
        """Problems with the parameters that can be told without data.

        Returns:
            A sentence for each problem.

        Example:
            >>> RequireTrust("trust.toml", at="noon").check()
            ["provenance.trust: at='noon' is no UTC time such as 2026-07-01T12:00:00Z"]
        """
        if wrong := super().check():
            return wrong
        if not self.policy:
            wrong.append(f"{self.name}: no policy is named, and without one nothing may be trusted")
        if self._moment() is None:
            wrong.append(f"{self.name}: at={self.at!r} is no UTC time such as 2026-07-01T12:00:00Z")
        return wrong

    def cacheable(self) -> bool:
        """False: keys expire and are revoked, so an earlier answer may be stale.

        Returns:
            False.

        Example:
            >>> RequireTrust().cacheable()
            False
        """
        return False

    def run(self, data: Dataset, context: Context) -> Yield:
        """Judge every source.

        Args:
            data: Its sources are judged; its rows are only counted.
            context: Not used.

        Returns:
            The same rows with the sources' new trust, and the finding.

        Raises:
            TrustError: A source is refused and `on_finding` is `stop`, or the policy itself does
                not hold; the code is that of the first reason.

        Example:
            >>> from datapipe.core.dataset import empty
            >>> made = RequireTrust().run(empty(), Context(0, Path(".")))
            >>> made.findings[0].verdict
            'not_evaluated'
        """
        every = origins(data)
        if not self.policy or not data.sources:
            why = "the rows name no source" if self.policy else "no policy is named"
            rows = rows_of(every, (), "")
            finding = Finding.not_evaluated("provenance.untrusted", why, measure=share(rows))
            return Yield(findings=(finding,))
        at = self._moment() or datetime.now(UTC)
        policy = self._policy(at)
        left = {s.number for s in present(data.sources, every)}
        answers = [_judged(s, policy, at) for s in data.sources if s.number in left]
        refused = [a for a in answers if a.refusals]
        if refused and self.on_finding == "stop":
            raise _stopped(refused)
        trusted = {a.source.number: a.source for a in answers}
        known = data.with_sources([trusted.get(s.number, s) for s in data.sources])
        rows = rows_of(every, [a.source.number for a in refused], "its source is not trusted")
        names = named([a.source for a in refused])
        first = f": {refused[0].refusals[0].reason}" if refused else ""
        finding = Finding(
            "provenance.untrusted",
            "fail" if refused else "clean",
            share(rows),
            f"{policy.name!r} refuses {len(refused)} of {len(answers)} sources"
            + (f": {names}{first}" if refused else ""),
            "high" if refused else "info",
            rows=rows,
            details={"policy": policy.name, "sources": [a.told() for a in answers]},
            remedy="ask the supplier for what is missing, or leave the source out"
            if refused
            else "",
        )
        return Yield(data=known, findings=(finding,))

    def _policy(self, at: datetime) -> Policy:
        paths: tuple[str, ...] = tuple(self.signed_by)  # type: ignore[arg-type]  # made so above
        keys = [key for path in paths for key in load_public_keys(path)]
        policy = os.fspath(self.policy)
        if not self.memory:
            return Policy.load(policy, signed_by=keys)
        memory = os.fspath(self.memory)
        return load_policy(policy, memory=memory, at=at, signed_by=keys)

    def _moment(self) -> datetime | None:
        """The time of judgement; None when it cannot be read, which `check` has told."""
        if not self.at:
            return datetime.now(UTC)
        try:
            found = datetime.fromisoformat(self.at)
        except ValueError:
            return None
        return None if found.tzinfo is None else found


@dataclass(frozen=True)
class _Answer:
    """A source with every check that was made of it."""

    source: Source
    checks: tuple[Check, ...]

    @property
    def refusals(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    def told(self) -> dict[str, Any]:
        checks = [check.to_json() for check in self.checks]
        return {"source": self.source.name, "source_no": self.source.number, "checks": checks}


def _judged(source: Source, policy: Policy, at: datetime) -> _Answer:
    checks = _checks(source, policy, at)
    held = bool(checks) and all(check.passed for check in checks)
    unsigned = [check for check in checks if check.code is Reason.UNSIGNED]
    trust: TrustState = "verified" if held else ("unsigned" if unsigned else "invalid")
    signer = _signer(source, policy) if held else ""
    return _Answer(replace(source, trust=trust, signer=signer), checks)


def _signer(source: Source, policy: Policy) -> str:
    signed = signed_paths(source, [Path(path).absolute() for path, _ in source.files])
    return signer_of(min(signed.values()), policy.public_keys)


def _checks(source: Source, policy: Policy, at: datetime) -> tuple[Check, ...]:
    """What the policy says of the signatures about a source, then of what its reader declared."""
    files = [Path(path).absolute() for path, _ in source.files]
    if not files:
        what = "an object in memory has no signature"
        return (Check.refused("signature", what, Reason.UNSIGNED),)
    try:
        signed = signed_paths(source, files)
    except TrustError as error:
        return (Check.refused("signature", error.message, Reason.MISSING),)
    lacking = [file for file in files if file not in signed]
    if lacking:
        what = f"no signature is about {lacking[0].name}"
        return (Check.refused("signature", what, Reason.UNSIGNED),)
    checks: list[Check] = []
    for target in sorted(set(signed.values())):
        checks += verify_path(target, policy=policy, at=at).checks
        checks += _declared(source, policy, target)
    if source.digest and source.digest != digest_of(files):
        checks.append(Check.refused("files", "they changed after they were read", Reason.CHANGED))
    return tuple(checks)


def _declared(source: Source, policy: Policy, target: Path) -> list[Check]:
    """The reader's own declarations, which may be stricter than the signed ones."""
    checks: list[Check] = []
    if source.consent == "denied":
        checks.append(Check.refused("consent", "it was denied", Reason.CONSENT))
    attestation = signature_paths(target)[1]
    if not attestation.is_file():
        return checks
    try:
        rules = fitting_rules(policy, Envelope.load(attestation).statement())
    except TrustError:  # told already, by the verification
        return checks
    for rule in rules:
        if rule.licences and source.licence and not allows(source.licence, rule.licences):
            what = f"its reader declares {source.licence}, which is not allowed"
            checks.append(Check.refused("licences", what, Reason.LICENCE))
        most = rule.max_synthetic_share
        if most is not None and most < 1 and source.synthetic:
            what = f"its reader declares it synthetic, at most {most:g} is allowed"
            checks.append(Check.refused("synthetic", what, Reason.SYNTHETIC_SHARE))
    return checks


def _stopped(refused: Sequence[_Answer]) -> TrustError:
    """All sources that are refused, the first with its reasons."""
    first = refused[0]
    told = "; ".join(f"{check.name}: {check.reason}" for check in first.refusals[:3])
    more = f" (and {len(refused) - 1} more sources)" if len(refused) > 1 else ""
    return TrustError(
        f"the source {first.source.name!r} is not trusted: {told}{more}",
        code=first.refusals[0].code.value,
        hint="ask its supplier for what is missing, or leave it out; nothing was trained",
        path=first.source.uri,
    )
