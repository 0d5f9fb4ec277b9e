# SPDX-License-Identifier: Apache-2.0
"""What `datapipe verify PATH` asks: is this folder, file or statement what its signers signed?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from datapipe.errors import TrustError
from datapipe.manifest.attestation import TREE_DIGEST, check_attestation
from datapipe.manifest.bundle import (
    ATTESTATION_SUFFIX,
    OPENSSF_SUFFIX,
    parents_path,
    read_parents,
    signature_paths,
)
from datapipe.manifest.checks import Check, Reason, Report
from datapipe.manifest.compare import Digests, compare_files
from datapipe.manifest.envelope import Envelope, read_limited
from datapipe.manifest.files import hash_file
from datapipe.manifest.judge import Case, judge
from datapipe.manifest.listing import list_files, name_problem, whole_path
from datapipe.manifest.openssf import LARGEST_BUNDLE_BYTES, read_bundle
from datapipe.manifest.policy import Policy
from datapipe.manifest.predicates import DatasetPredicate, ErasurePredicate, read_predicate
from datapipe.manifest.public_keys import PublicKey, missing_parts
from datapipe.manifest.rows import ROW_PROOF_SUFFIX, RowProof
from datapipe.manifest.statement import Statement, Subject

EVIDENCE_SUFFIX = ".evidence.json"
Locate: TypeAlias = Callable[[Subject], Path | None]


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe in one verification.

    Args:
        keys: Keys that are believed.
        policy: A policy; its keys are believed too, and its rules are applied.
        at: The time of judgement, with its zone; now when absent.
        allow_unknown: Pass over signatures by other keys.
        parents: Envelopes of the statements about materials, for policies that ask for them.
        locate: Finds the bytes of a subject that does not lie beside its statement, such as an
            object of a store; returns None when it does not know.
        known: Digests made in this verification, so that no file is read twice.

    Example:
        >>> Trust().keys
        ()
    """

    keys: tuple[PublicKey, ...] = ()
    policy: Policy | None = None
    at: datetime | None = None
    allow_unknown: bool = False
    parents: tuple[Envelope, ...] = ()
    locate: Locate | None = None
    known: Digests = field(default_factory=dict)

    @property
    def believed(self) -> tuple[PublicKey, ...]:
        """The given keys and those of the policy.

        Returns:
            Public keys.

        Example:
            >>> Trust().believed
            ()
        """
        return (*self.keys, *(self.policy.public_keys if self.policy else ()))

    def accept(self, envelope: Envelope) -> tuple[PublicKey, ...]:
        """Verify the signatures of an envelope.

        Args:
            envelope: The envelope.

        Returns:
            The keys that signed.

        Raises:
            TrustError: A hybrid key signed with some of its parts only.

        Example:
            >>> from datapipe.manifest.keys import PrivateKey
            >>> key = PrivateKey.new("ed25519")
            >>> len(Trust(key.public_keys).accept(Envelope.sign(b"{}", key)))
            1
        """
        ignore = self.policy is not None and self.policy.unknown_signatures == "ignore"
        allow = self.allow_unknown or ignore
        signers = envelope.verify(self.believed, allow_unknown=allow)
        missing = missing_parts(signers, self.keys)
        if missing:
            names = ", ".join(f"{key.algorithm} {key.keyid[:12]}" for key in missing)
            raise TrustError(
                f"a hybrid key signed in part: the signature by {names} is missing",
                code=Reason.HYBRID_PART.value,
                hint="somebody may have removed it; ask the signer for the whole envelope",
            )
        return signers

    def judge(self, statement: Statement, signers: tuple[PublicKey, ...]) -> tuple[Check, ...]:
        """Apply the policy, if there is one.

        Args:
            statement: A statement whose signatures were verified.
            signers: The keys that signed it.

        Returns:
            The policy's checks; none without a policy.

        Example:
            >>> Trust().judge(Statement((Subject("a", {"sha256": "0" * 64}),), "a:b", {}), ())
            ()
        """
        if self.policy is None:
            return ()
        parents = {parent.statement().digest: parent for parent in self.parents}
        at = self.at or datetime.now(UTC)
        return judge(self.policy, Case(statement, signers, at, parents))

    def judge_bundle(
        self, statement: Statement, signer: PublicKey, *, attested: bool
    ) -> tuple[Check, ...]:
        """Apply the policy to an OpenSSF bundle.

        A bundle says nothing about terms, roles or origin. When our attestation lies beside it
        the rules are applied there, and only the key's dates are judged here.

        Args:
            statement: The bundle's statement.
            signer: The key that signed it.
            attested: Whether our attestation lies beside the bundle.

        Returns:
            The policy's checks; none without a policy.

        Example:
            >>> from datapipe.manifest.keys import PrivateKey
            >>> said = Statement((Subject("a", {"sha256": "0" * 64}),), "a:b", {})
            >>> Trust().judge_bundle(said, PrivateKey.new("p256").public_key, attested=True)
            ()
        """
        if self.policy is None or not attested:
            return self.judge(statement, (signer,))
        key = self.policy.owner_of(signer.keyid)
        problem = key.problem(self.at or datetime.now(UTC)) if key else None
        if problem is None:
            return ()
        what = f"the key {signer.keyid[:12]} is not believed: {problem.slug}"
        return (Check.refused("OpenSSF bundle", what, problem),)


def verify_path(
    path: str | Path,
    *,
    keys: Iterable[PublicKey] = (),
    policy: Policy | None = None,
    at: datetime | None = None,
    parents: Sequence[Envelope] = (),
    locate: Locate | None = None,
) -> Report:
    """Verify a folder, a file, a statement or a bundle.

    A folder or file is compared with the signatures beside it (`<name>.dsse.json`,
    `<name>.oms.sigstore.json`); when there are both, both must hold. A path that is such a
    signature is verified with what it is about. In a folder of evidence each `*.evidence.json` is
    a statement of its own and must hold.

    Args:
        path: What to verify.
        keys: Keys that are believed; a signature by any other refuses.
        policy: A policy; its keys are believed too, and its rules must hold.
        at: The time of judgement, with its zone; now when absent.
        parents: Envelopes of the statements about materials, for policies that ask for them,
            beside those of `<name>.intoto.jsonl`.
        locate: Finds the bytes of a subject that does not lie beside its statement.

    Returns:
        Every check, passed or not; call `require` on it to stop when one was refused.

    Example:
        >>> import tempfile
        >>> from datapipe.manifest.bundle import sign_path
        >>> from datapipe.manifest.keys import PrivateKey
        >>> folder, key = Path(tempfile.mkdtemp()) / "reviews", PrivateKey.new("p256")
        >>> folder.mkdir()
        >>> _ = (folder / "a.txt").write_text("hi")
        >>> _ = sign_path(folder, key)
        >>> verify_path(folder, keys=[key.public_key]).passed
        True
        >>> _ = (folder / "a.txt").write_text("ho")
        >>> verify_path(folder, keys=[key.public_key]).failed[0].name
        "file 'a.txt'"
    """
    whole = whole_path(path)
    try:
        beside = read_parents(_about(whole))
    except TrustError as error:
        refused = Check.refused(parents_path(whole).name, error.message, Reason(error.code))
        return Report(str(path), (refused,))
    trust = Trust(tuple(keys), policy, at, parents=(*parents, *beside), locate=locate)
    if not whole.exists():
        checks: tuple[Check, ...] = (Check.refused("path", "does not exist", Reason.MISSING),)
    elif whole.is_file() and whole.name.endswith(OPENSSF_SUFFIX):
        checks = _openssf(whole, whole.with_name(whole.name.removesuffix(OPENSSF_SUFFIX)), trust)
    elif whole.is_file() and whole.name.endswith(ROW_PROOF_SUFFIX):
        checks = _row(whole, trust)
    elif whole.is_file() and whole.name.endswith((ATTESTATION_SUFFIX, EVIDENCE_SUFFIX)):
        checks = _statement(whole, trust)
    else:
        checks = _signed(whole, trust)
    return Report(str(path), checks)


def _about(path: Path) -> Path:
    """What a signature file is about; any other path is about itself."""
    for suffix in (OPENSSF_SUFFIX, ATTESTATION_SUFFIX):
        if path.name.endswith(suffix):
            return path.with_name(path.name.removesuffix(suffix))
    return path


def verify_bundle(path: str | Path, bundle: str | Path, *, keys: Iterable[PublicKey]) -> Report:
    """Verify a folder or file with an OpenSSF bundle that lies anywhere, such as a peer's.

    Args:
        path: The folder or file.
        bundle: The bundle; when it lies inside the folder it is no content.
        keys: Keys that are believed.

    Returns:
        Every check, passed or not.

    Example:
        >>> verify_bundle("no-folder", "no-bundle", keys=()).failed[0].code.slug
        'missing'
    """
    checks = _openssf(whole_path(bundle), whole_path(path), Trust(tuple(keys)))
    return Report(str(path), checks)


def verify_envelope(
    envelope: Envelope, *, keys: Iterable[PublicKey] = (), policy: Policy | None = None
) -> Report:
    """Verify who signed a statement, without looking at what it is about.

    Args:
        envelope: The signed statement.
        keys: Keys that are believed.
        policy: A policy; its keys are believed too, and its rules must hold.

    Returns:
        Every check, passed or not.

    Example:
        >>> verify_envelope(Envelope(b"{}")).failed[0].code.slug
        'unsigned'
    """
    trust = Trust(tuple(keys), policy)
    checks, _ = _signatures(envelope, trust)
    return Report("statement", checks)


def _signed(path: Path, trust: Trust) -> tuple[Check, ...]:
    bundle, attestation = signature_paths(path)
    checks: tuple[Check, ...] = ()
    if attestation.is_file():
        checks += _statement(attestation, trust)
    if bundle.is_file():
        checks += _openssf(bundle, path, trust, attested=attestation.is_file())
    if checks:
        return checks
    evidence = sorted(path.rglob(f"*{EVIDENCE_SUFFIX}")) if path.is_dir() else []
    if evidence:
        return _evidence(path, evidence, trust)
    what = f"no {attestation.name} or {bundle.name} beside it"
    return (Check.refused("signature", what, Reason.UNSIGNED),)


def _evidence(folder: Path, evidence: list[Path], trust: Trust) -> tuple[Check, ...]:
    """A folder of evidence, each file a signed statement of its own.

    Pages with the name of an evidence file, and READMEs, may lie beside; anything else is refused:
    a signed statement among unsigned files must not make those files look verified.
    """
    checks: list[Check] = []
    for file in evidence:
        where = file.relative_to(folder).as_posix()
        found = _statement(file, trust)
        checks += [replace(check, name=f"{where}: {check.name}") for check in found]
    pages = {file.with_name(file.name.removesuffix(EVIDENCE_SUFFIX) + ".md") for file in evidence}
    for beside in list_files(folder).files:
        path = Path(beside.path)
        if path not in pages and path not in evidence and path.name != "README.md":
            checks.append(Check.refused(f"file {beside.name!r}", "was not signed", Reason.ADDED))
    return tuple(checks)


def _signatures(envelope: Envelope, trust: Trust) -> tuple[tuple[Check, ...], Statement | None]:
    try:
        signers = trust.accept(envelope)
        statement = envelope.statement()
        judged = trust.judge(statement, signers)
    except TrustError as error:
        return (Check.refused("signature", error.message, Reason(error.code)),), None
    who = ", ".join(f"{key.algorithm} {key.keyid[:12]}" for key in signers)
    return (Check.held("signature", f"by {who}"), *judged), statement


def _statement(file: Path, trust: Trust) -> tuple[Check, ...]:
    try:
        envelope = Envelope.load(file)
    except TrustError as error:
        return (Check.refused(file.name, error.message, Reason(error.code)),)
    checks, statement = _signatures(envelope, trust)
    if statement is None:
        return checks
    if statement.predicate_type == ErasurePredicate.uri:
        return (*checks, *_receipt(statement))
    tree = any(TREE_DIGEST in subject.digests for subject in statement.subjects)
    if statement.predicate_type == DatasetPredicate.uri and tree:
        target = file.with_name(file.name.removesuffix(ATTESTATION_SUFFIX))
        return (
            *checks,
            *check_attestation(statement, target, left_out=[str(file)], known=trust.known),
        )
    return (*checks, *(_subject(subject, file, trust) for subject in statement.subjects))


def _row(file: Path, trust: Trust) -> tuple[Check, ...]:
    """A proof for one row: who signed the data set, and whether the row stands in it."""
    try:
        proof = RowProof.from_bytes(read_limited(file, LARGEST_BUNDLE_BYTES))
    except TrustError as error:
        return (Check.refused(file.name, error.message, Reason(error.code)),)
    checks, statement = _signatures(proof.envelope, trust)
    return checks if statement is None else (*checks, proof.check(statement))


def _receipt(statement: Statement) -> tuple[Check, ...]:
    """A receipt is about the state of a log, and no file: it must say the same of it twice."""
    try:
        told = read_predicate(statement)
    except TrustError as error:
        return (Check.refused("receipt", error.message, Reason(error.code)),)
    point = told.log if isinstance(told, ErasurePredicate) else None
    roots = {subject.digests.get("sha256") for subject in statement.subjects}
    if point is None or roots != {point.root}:
        return (Check.refused("receipt", "is about another log", Reason.BAD_FORM),)
    return (Check.held("receipt", f"{point.origin} at {point.size:,} records"),)


def _subject(subject: Subject, file: Path, trust: Trust) -> Check:
    """Find the bytes of a subject beside its statement, or where `locate` says, and hash them."""
    name = f"file {subject.name!r}"
    problem = name_problem(subject.name)
    if problem is not None:
        return Check.refused(name, "has a name that leaves the folder", problem)
    path = file.parent / subject.name
    if not path.is_file():
        found = trust.locate(subject) if trust.locate else None
        if found is None:
            return Check.refused(name, "is missing", Reason.MISSING)
        path = found
    if "sha256" not in subject.digests:
        return Check.refused(name, "has no sha256", Reason.UNKNOWN_HASH)
    try:
        digest, _ = hash_file(path)
    except TrustError as error:
        return Check.refused(name, error.message, Reason(error.code))
    if digest != subject.digests["sha256"]:
        return Check.refused(name, "has other content than was signed", Reason.CHANGED)
    return Check.held(name, "is what was signed")


def _openssf(
    file: Path, target: Path, trust: Trust, *, attested: bool = False
) -> tuple[Check, ...]:
    try:
        bundle = read_bundle(read_limited(file, LARGEST_BUNDLE_BYTES))
        signer = bundle.verify(trust.believed)
        judged = trust.judge_bundle(bundle.envelope.statement(), signer, attested=attested)
    except TrustError as error:
        return (Check.refused("OpenSSF bundle", error.message, Reason(error.code)),)
    held = Check.held(
        "OpenSSF bundle", f"{bundle.name!r} by {signer.algorithm} {signer.keyid[:12]}"
    )
    files = compare_files(
        bundle.files, target, left_out=[str(file)], ignored=bundle.ignored, known=trust.known
    )
    return (held, *judged, *files)
