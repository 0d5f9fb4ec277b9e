# SPDX-License-Identifier: Apache-2.0
"""The signed receipt of an erasure, which names the person by a salted commitment only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from datapipe.execute._attest import ORIGIN
from datapipe.lineage.objects import bare
from datapipe.lineage.store import Lineage
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.facts import LogPoint, Material, Reached
from datapipe.manifest.keyring import moment
from datapipe.manifest.log import Checkpoint
from datapipe.manifest.predicates import ErasurePredicate
from datapipe.manifest.signers import AnySigner
from datapipe.manifest.statement import Subject

STATEMENT = ".dsse.json"
Remedy: TypeAlias = Literal["rewritten", "retrained", "retired", "pending"]


def sign_receipts(lineage: Lineage, signer: AnySigner) -> dict[str, str]:
    """Sign a receipt for every erasure of which more is told than its last receipt says.

    Args:
        lineage: The store; what its erasures did stands in its tables.
        signer: Who signs.

    Returns:
        Id of the erasure to the digest of its receipt.
    """
    missing = lineage.sql(
        "select erasure_id from erasures e where not exists (from attestations a "
        "where a.run_id = e.erasure_id and a.seq > coalesce((select max(seq) from erased "
        "where erasure_id = e.erasure_id), 0)) order by seq"
    )["erasure_id"]
    return {erasure: _sign(lineage, erasure, signer) for erasure in missing}


def _sign(lineage: Lineage, erasure: str, signer: AnySigner) -> str:
    """One receipt, over the log as it is now; then a checkpoint of the log that holds it."""
    request = lineage.sql("from erasures where erasure_id = $id", id=erasure).row(0, named=True)
    reached = tuple(_reached(lineage, erasure))
    pending = any(thing.remedy == "pending" for thing in reached)
    size, root = lineage.root()
    predicate = ErasurePredicate(
        erasure,
        request["commitment"],
        moment(request["requested_at"].replace(tzinfo=UTC)),
        None if pending else moment(datetime.now(UTC)),
        request["rows"],
        reached,
        LogPoint(ORIGIN, size, root.hex()),
    )
    about = Subject("log", {"sha256": root.hex()})
    envelope = Envelope.sign(predicate.about(about).to_bytes(), signer)
    with lineage.naming():
        digest, path = lineage.put_bytes(envelope.to_bytes(), suffix=STATEMENT)
        body = {
            "digest": digest,
            "run_id": erasure,
            "predicate_type": ErasurePredicate.uri,
            "subjects": [{"name": about.name, "digest": dict(about.digests)}],
            "keyids": [s.keyid for s in envelope.signatures],
            "object": path.name,
        }
        lineage.append([("attestations", body)])
    size, root = lineage.root()
    lineage.put_checkpoint(size, root, Checkpoint(ORIGIN, size, root).sign(signer).to_text())
    lineage.index()
    return digest


def _reached(lineage: Lineage, erasure: str) -> Iterator[Reached]:
    effects = lineage.sql(
        "from erased where erasure_id = $id and kind in ('dataset', 'model', 'export') "
        "qualify seq = max(seq) over (partition by kind, digest) order by seq",
        id=erasure,
    )
    for line in effects.to_dicts():
        yield Reached(
            Material(line["name"], {"sha256": bare(line["digest"])}),
            line["rows"],
            line["remedy"],
            replaced_by=bare(line["replaced_by"]) if line["replaced_by"] else None,
        )
