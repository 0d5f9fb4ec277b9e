# SPDX-License-Identifier: Apache-2.0
"""Signing what a run did: one statement a run, and a checkpoint of the log beside it."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapipe.core.artifact import Artifact
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding
from datapipe.core.stage import Stage
from datapipe.execute._parents import keep_parents, source_materials
from datapipe.execute.reuse import engine_versions
from datapipe.lineage.store import Lineage
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.facts import (
    Code,
    Environment,
    FindingSummary,
    Material,
    Measure,
    Rows,
    StepSummary,
    Terms,
)
from datapipe.manifest.keys import AnySigner, demo_key, find_passphrase, load_key
from datapipe.manifest.log import Checkpoint
from datapipe.manifest.predicates import RunPredicate
from datapipe.manifest.statement import Subject
from datapipe.manifest.witness import WITNESS_VARIABLE, keep_note

log = logging.getLogger("datapipe.execute")

KEY_VARIABLE = "DATAPIPE_KEY"
ORIGIN = "datapipe/store"


@dataclass(frozen=True, eq=False)
class StepDone:
    """One finished step, as the statement tells it.

    Args:
        stage: The stage.
        code: The digest of its code, as it was when the run began.
        rows_in: Rows it was given.
        rows_out: Rows it passed on.
        rows_aside: Rows it set aside.
        findings: What it found.
        reused: Whether an earlier result was used.

    Example:
        >>> StepDone(Stage(), Stage().code_digest(), 2, 1, 1, (), False).rows_out
        1
    """

    stage: Stage
    code: str
    rows_in: int
    rows_out: int
    rows_aside: int
    findings: tuple[Finding, ...]
    reused: bool


def run_signer(store: Path) -> AnySigner:
    """The key that signs runs: the user's, or the demo key of the store.

    `DATAPIPE_KEY` names an encrypted PEM file, `DATAPIPE_KEY_PASSPHRASE` opens it. Without it a
    demo key is made on first use; it proves integrity, not identity, and the log says so.

    Args:
        store: Folder of the store.

    Returns:
        The signer.

    Example:
        >>> import tempfile
        >>> bool(run_signer(Path(tempfile.mkdtemp())).keyid)
        True
    """
    named = os.environ.get(KEY_VARIABLE, "")
    if named:
        return load_key(named, find_passphrase())
    key, created = demo_key(store / "keys")
    if created:
        log.warning(
            "made a demo key in %s: its passphrase is public, so it proves integrity, not identity;"
            " set %s to sign as yourself",
            store / "keys",
            KEY_VARIABLE,
        )
    return key


def environment() -> Environment:
    """Where this process runs.

    Returns:
        Python, platform and the engines' versions.

    Example:
        >>> environment().python.startswith("3.")
        True
    """
    return Environment(
        platform.python_version(),
        f"{platform.system()} {platform.machine()}",
        dict(engine_versions()),
    )


def sign_run(
    lineage: Lineage,
    facts: Mapping[str, Any],
    *,
    steps: Sequence[StepDone],
    findings: Sequence[Finding],
    data: Dataset,
    artifacts: Sequence[Artifact],
) -> str:
    """Sign a run's statement, store it and checkpoint the log, also outside when asked to.

    Args:
        lineage: The store.
        facts: `run_id`, `pipeline`, `seed`, `verdict`, `started_at`, `finished_at`.
        steps: What each step did.
        findings: Every finding.
        data: The rows that are left.
        artifacts: What was made beside them.

    Returns:
        Digest of the stored envelope.
    """
    signer = run_signer(lineage.store)
    outputs = [Material(data.path.name if data.path else "rows", _hex(data.digest), rows=len(data))]
    outputs += [Material(a.name, _hex(a.digest), media_type=a.media_type) for a in artifacts]
    told: dict[str, Any] = {
        name: _moment(fact) if name.endswith("_at") else fact for name, fact in facts.items()
    }
    predicate = RunPredicate(
        **told,
        steps=tuple(_step(s) for s in steps),
        materials=source_materials(data.sources),
        outputs=tuple(outputs),
        findings=tuple(_summary(f) for f in findings),
        environment=environment(),
        terms=Terms(licences=tuple(sorted({s.licence for s in data.sources if s.licence}))),
        declared_synthetic_share=_declared(data),
    )
    subjects = [Subject(m.name, m.digest) for m in outputs]
    envelope = Envelope.sign(predicate.about(*subjects).to_bytes(), signer)
    with lineage.naming():
        digest, path = lineage.put_bytes(envelope.to_bytes(), suffix=".dsse.json")
        body = {
            "digest": digest,
            "run_id": facts["run_id"],
            "predicate_type": RunPredicate.uri,
            "subjects": [{"name": m.name, "digest": dict(m.digest)} for m in outputs],
            "keyids": [s.keyid for s in envelope.signatures],
            "object": path.name,
        }
        parents = keep_parents(lineage, data.sources, facts["run_id"])
        lineage.append([*parents, ("attestations", body)])
    size, root = lineage.root()
    point = Checkpoint(ORIGIN, size, root).sign(signer)
    lineage.put_checkpoint(size, root, point.to_text())
    outside = os.environ.get(WITNESS_VARIABLE, "")
    if outside:
        keep_note(outside, lineage.store, point, lambda n: lineage.root(n)[1])
    return digest


def _moment(told: str) -> str:
    """A time as statements write it, which is stricter than what the journal keeps."""
    return told.replace("+00:00", "Z")


def _hex(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}


def _step(done: StepDone) -> StepSummary:
    stage = done.stage
    return StepSummary(
        Code(stage.name, stage.version, done.code.removeprefix("sha256:")),
        rows=Rows(done.rows_in, done.rows_out, {"set aside": done.rows_aside}),
        findings=tuple(_summary(f) for f in done.findings),
        reused=done.reused,
    )


def _summary(finding: Finding) -> FindingSummary:
    return FindingSummary(
        finding.kind,
        finding.verdict,
        finding.severity,
        finding.says,
        Measure.of(finding.measure),
        finding.remedy,
    )


def _declared(data: Dataset) -> float | None:
    """Share of the rows read that are declared synthetic; None when no source says either way."""
    told = [s for s in data.sources if s.synthetic is not None]
    total = sum(s.rows for s in data.sources)
    if not told or not total:
        return None
    return sum(s.rows for s in told if s.synthetic) / total
