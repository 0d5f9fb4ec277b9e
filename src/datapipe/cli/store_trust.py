# SPDX-License-Identifier: Apache-2.0
"""Whether a store is what its signers signed: its structure, its statements, its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapipe.core.merkle import root
from datapipe.errors import DatapipeError, TrustError
from datapipe.lineage.store import Lineage
from datapipe.manifest.checks import Check, Reason, Report
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.keys import DEMO_FILE, DEMO_PASSPHRASE, load_key
from datapipe.manifest.log import Checkpoint
from datapipe.manifest.policy import Policy
from datapipe.manifest.predicates import ErasurePredicate, read_predicate
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.signers import HybridKey
from datapipe.manifest.statement import Subject
from datapipe.manifest.verify import verify_path
from datapipe.manifest.witness import WITNESS_VARIABLE, check_note, note_path

UNSIGNED = "sound, with nothing to sign yet"
_SIGNED = """
select exists (from run_events where event in ('finished', 'stopped')) or exists (from attestations)
  or exists (from log_checkpoints) or exists (from erasures)
"""
"""Whether there is anything in a store that its owner has signed, or should have."""


@dataclass(frozen=True)
class Answer:
    """The verification of one path, in the form that is printed.

    Args:
        path: What was verified.
        checks: `name`, `passed`, `reason`, `code` of every question.
        note: What a person should know about a pass.
        word: What a pass proves.

    Example:
        >>> Answer("a", ({"name": "x", "passed": True, "reason": "y", "code": "z"},)).passed
        True
    """

    path: str
    checks: tuple[dict[str, Any], ...]
    note: str = ""
    word: str = "trusted"

    @property
    def passed(self) -> bool:
        """Whether something was asked and everything holds."""
        return bool(self.checks) and not self.failed

    @property
    def failed(self) -> list[dict[str, Any]]:
        """What does not hold."""
        return [c for c in self.checks if not c["passed"]]

    @classmethod
    def of(cls, report: Report) -> Answer:
        """The same from a report on files.

        Args:
            report: The report.

        Returns:
            Its checks as they are printed.

        Example:
            >>> Answer.of(Report("d", (Check.held("signature", "by ada"),))).checks[0]["reason"]
            'by ada'
        """
        return cls(report.path, tuple(c.to_json() for c in report.checks))


def verify_store(
    store: Path,
    keys: Sequence[PublicKey],
    policy: Policy | None,
    checkpoints: Sequence[Path] = (),
) -> Answer:
    """Verify a store.

    Without keys its own demo key is believed, whose passphrase everybody knows: that proves that
    nothing was damaged, not who made it. That much a store can show too in which no run has come to
    its end, so that nobody had anything to sign; whoever names a key is told that it is unsigned.

    Args:
        store: Its folder.
        keys: Keys that are believed.
        policy: A policy whose rules must hold, or None.
        checkpoints: Checkpoints that were kept outside of the store, which it must extend; beside
            the one that `DATAPIPE_WITNESS` may have kept.

    Returns:
        Every check.

    Example:
        >>> import tempfile
        >>> store = Path(tempfile.mkdtemp())
        >>> _ = Lineage(store, create=True)
        >>> verify_store(store, (), None).word
        'sound, with nothing to sign yet'
    """
    lineage = Lineage(store)
    problems = lineage.verify()
    structure = [
        {"name": str(store / p.path), "passed": False, "reason": p.says, "code": p.code}
        for p in problems
    ] or [_form(Check.held("structure", "journal, objects and index are what was recorded"))]
    believed, note = tuple(keys), ""
    if not believed and policy is None:
        believed = _demo_keys(store)
        note = "integrity only: signed by the store's demo key, which says nothing about who"
    if not problems and not keys and policy is None and not checkpoints and _begun(lineage):
        told = Check.held("log", "no run has come to its end here: there is nothing to sign yet")
        outside = _outside(lineage, (), ())
        return Answer(str(store), (*structure, _form(told), *outside), "", UNSIGNED)
    signed = _statements(lineage, believed, policy) if not problems else []
    known = (*believed, *(policy.public_keys if policy else ()))
    checks = [*structure, *signed, *_checkpoint(store, known)]
    checks += _outside(lineage, known, checkpoints)
    return Answer(str(store), tuple(checks), note)


def _begun(lineage: Lineage) -> bool:
    """Whether no run has come to its end, and nothing was ever signed or thrown away."""
    notes = lineage.store / "log"
    return not any(notes.glob("*")) and not lineage.sql(_SIGNED).item()


def _outside(
    lineage: Lineage, keys: Sequence[PublicKey], named: Sequence[Path]
) -> list[dict[str, Any]]:
    """The store against what was kept of it elsewhere."""
    folder = os.environ.get(WITNESS_VARIABLE, "")
    kept = [note_path(folder, lineage.store)] if folder else []
    notes = [*named, *(path for path in kept if path.is_file())]
    if not notes:
        return []
    try:
        leaves = lineage.leaves()
    except TrustError as error:
        return [{"name": "outside checkpoint", "passed": False, "reason": error.message,
                 "code": error.code}]  # fmt: skip
    return [
        _form(check_note(path, keys, len(leaves), lambda size: root(leaves[:size])))
        for path in notes
    ]


def _statements(
    lineage: Lineage, keys: Sequence[PublicKey], policy: Policy | None
) -> list[dict[str, Any]]:
    """Every statement of the store, with the objects that it is about."""
    gone = _gone(lineage)

    def locate(subject: Subject) -> Path | None:
        return lineage.object_path(subject.digests.get("sha256", ""))

    checks: list[dict[str, Any]] = []
    lines = lineage.sql("select digest, run_id from attestations order by seq").rows()
    for digest, run in lines:
        path = lineage.object_path(digest)
        if path is None and digest in gone:
            checks.append(_form(Check.held(f"run {run}", f"taken out by {gone[digest]}")))
            continue
        if path is None:
            checks.append(
                _form(Check.refused(f"run {run}", "its statement is gone", Reason.MISSING))
            )
            continue
        report = verify_path(path, keys=keys, policy=policy, locate=locate)
        erased = _erased_subjects(path, gone)
        told = [erased.get(c.name, c) if c.code == Reason.MISSING else c for c in report.checks]
        checks += [{**c.to_json(), "name": f"run {run}: {c.name}"} for c in told]
    return [*checks, *_receipts(lineage)]


def _gone(lineage: Lineage) -> dict[str, str]:
    """Objects that an erasure took out, each with the erasure."""
    erased = "select digest, erasure_id from erased where remedy in ('rewritten', 'retired')"
    return dict(lineage.sql(f"{erased} order by seq").rows())


def _erased_subjects(path: Path, gone: Mapping[str, str]) -> dict[str, Check]:
    """What stands for the check of a subject that was erased, by the check's name."""
    if not gone:
        return {}
    found: dict[str, Check] = {}
    for subject in Envelope.load(path).statement().subjects:
        erasure = gone.get("sha256:" + subject.digests.get("sha256", ""))
        if erasure is not None:
            name = f"file {subject.name!r}"
            found[name] = Check.held(name, f"was erased by {erasure}, which has a receipt")
    return found


def _receipts(lineage: Lineage) -> list[dict[str, Any]]:
    """Every erasure has a receipt in the log, over a root that the log still has."""
    checks: list[dict[str, Any]] = []
    for erasure in lineage.sql("select erasure_id from erasures order by seq")["erasure_id"]:
        signed = lineage.sql(
            "select digest from attestations where run_id = $run order by seq", run=erasure
        )["digest"]
        checks += [_form(_receipt(lineage, erasure, lineage.object_path(d))) for d in signed[-1:]]
        if not len(signed):
            what = f"{erasure} has no receipt: erase once more to finish it"
            checks.append(_form(Check.refused("receipt", what, Reason.MISSING)))
    return checks


def _receipt(lineage: Lineage, erasure: str, path: Path | None) -> Check:
    """One receipt; its signature was verified among the statements."""
    try:
        told = None if path is None else read_predicate(Envelope.load(path).statement())
        point = told.log if isinstance(told, ErasurePredicate) else None
        if point is None:
            return Check.refused("receipt", f"that of {erasure} is gone", Reason.MISSING)
        if lineage.root(point.size)[1].hex() != point.root:
            what = f"the log is not the one that {erasure} was signed over"
            return Check.refused("receipt", what, Reason.CHANGED)
    except DatapipeError as error:
        return Check.refused("receipt", f"that of {erasure}: {error.message}", Reason.BAD_FORM)
    return Check.held("receipt", f"{erasure} is in the log at {point.size:,} records")


def _checkpoint(store: Path, keys: Sequence[PublicKey]) -> list[dict[str, Any]]:
    """The newest signed state of the log; what it covers was compared with the journal above."""
    path = store / "log" / "checkpoint"
    if not path.is_file():
        return [_form(Check.refused("log", "nothing in this store is signed", Reason.UNSIGNED))]
    try:
        point = Checkpoint.load(path).verify(keys)
    except TrustError as error:
        return [{"name": str(path), "passed": False, "reason": error.message, "code": error.code}]
    return [_form(Check.held("log", f"{point.size:,} records under a signed checkpoint"))]


def _demo_keys(store: Path) -> tuple[PublicKey, ...]:
    path = store / "keys" / DEMO_FILE
    if not path.is_file():
        return ()
    key = load_key(path, DEMO_PASSPHRASE)
    return key.public_keys if isinstance(key, HybridKey) else (key.public_key,)


def _form(check: Check) -> dict[str, Any]:
    return check.to_json()
