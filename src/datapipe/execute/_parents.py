# SPDX-License-Identifier: Apache-2.0
"""What a run read, with the statements that others signed about it: the way back to the sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datapipe.core.source import Source
from datapipe.errors import TrustError
from datapipe.lineage.records import Entry
from datapipe.lineage.store import Lineage
from datapipe.manifest.bundle import ATTESTATION_SUFFIX, read_parents, signature_paths
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.facts import Material
from datapipe.manifest.statement import PAYLOAD_TYPE, Statement

PARENT_KIND = "parent"


def source_materials(sources: Sequence[Source]) -> tuple[Material, ...]:
    """The sources as materials, each with the digest of the statement that is about its bytes.

    Args:
        sources: What a run read.

    Returns:
        One material a source; one a file where a signed folder names several.

    Example:
        >>> source = Source("a", "a.csv", digest="sha256:" + "0" * 64, rows=3)
        >>> source_materials([source])[0].attestation is None
        True
    """
    return tuple(material for source in sources for material in _materials(source))


def keep_parents(lineage: Lineage, sources: Sequence[Source], run_id: str) -> list[Entry]:
    """Keep the statements about the sources, and about what those were made from, in the store.

    Args:
        lineage: The store.
        sources: What a run read.
        run_id: The run.

    Returns:
        Records to append.

    Example:
        >>> import tempfile
        >>> keep_parents(Lineage(tempfile.mkdtemp(), create=True), [], "r1")
        []
    """
    found: dict[str, tuple[str, Envelope]] = {}
    for source in sources:
        for target in _targets(source):
            envelope = _envelope(target)
            for parent in (*([envelope] if envelope else []), *_beside(target)):
                found.setdefault(parent.statement().digest, (target.name, parent))
    records: list[Entry] = []
    for digest, (name, envelope) in found.items():
        data = envelope.to_bytes()
        stored, _ = lineage.put_bytes(data, suffix=ATTESTATION_SUFFIX)
        facts = {"statement": digest, "keyids": [s.keyid for s in envelope.signatures]}
        body = {"run_id": run_id, "digest": stored, "name": name, "kind": PARENT_KIND}
        told = {"media_type": PAYLOAD_TYPE, "bytes": len(data), "facts": facts}
        records.append(("artifacts", {**body, **told}))
    return records


def _materials(source: Source) -> list[Material]:
    digest = source.digest.removeprefix("sha256:")
    whole = Material(source.name, {"sha256": digest}, rows=source.rows)
    listed: list[Material] = []
    for target in _targets(source):
        envelope = _envelope(target)
        statement = envelope.statement() if envelope else None
        if statement is None:
            return [whole]
        named = _named(statement)
        names = {Path(p).absolute(): n for p, n in source.files}
        for path, rows in names.items():
            inside = path.name if path == target else path.relative_to(target).as_posix()
            if (path == target or target in path.parents) and inside in named:
                held = {"sha256": named[inside]}
                listed.append(Material(path.name, held, statement.digest, rows))
    if len(listed) != len(source.files):
        return [whole]
    if len(listed) == 1:  # the bytes that were read, whatever the statement says
        return [Material(source.name, whole.digest, listed[0].attestation, source.rows)]
    # what a statement says of several files counts only once it was held against the files
    return listed if source.trust == "verified" else [whole]


def _named(statement: Statement) -> dict[str, str]:
    return {s.name: s.digests["sha256"] for s in statement.subjects if "sha256" in s.digests}


def _targets(source: Source) -> list[Path]:
    """What the signatures of a source are about: the file or folder that they lie beside."""
    if source.manifest:
        manifest = Path(source.manifest).absolute()
        named = manifest.name.endswith(ATTESTATION_SUFFIX)
        return [manifest.with_name(manifest.name.removesuffix(ATTESTATION_SUFFIX))] if named else []
    found: list[Path] = []
    for file, _ in source.files:
        path = Path(file).absolute()
        beside = (t for t in (path, path.parent) if signature_paths(t)[1].is_file())
        target = next(beside, None)
        if target is not None and target not in found:
            found.append(target)
    return found


def _envelope(target: Path) -> Envelope | None:
    """The statement beside a file or folder; one that cannot be read is as good as none here."""
    try:
        envelope = Envelope.load(signature_paths(target)[1])
        envelope.statement()
    except TrustError:
        return None
    return envelope


def _beside(target: Path) -> tuple[Envelope, ...]:
    try:
        return read_parents(target)
    except TrustError:
        return ()
