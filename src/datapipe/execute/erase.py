# SPDX-License-Identifier: Apache-2.0
"""Erasure: everything that a person's rows reached, taken out of a store, with a signed receipt.

Rows leave every data set, and every table about rows keeps their ids only. Records of the journal
lose what tells of the person; chain, Merkle log and every proof stay as they were, because a leaf
is a hash over content and random bytes that go with it. Models that the rows trained are marked
until they are trained anew, or retired at once. The person is named by a salted commitment alone.

References:
    Regulation (EU) 2016/679 (GDPR), article 17, right to erasure.
    Laurie, Langley, Kasper, 2013, RFC 6962: Certificate Transparency.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID
from datapipe.errors import TrustError
from datapipe.execute._attest import run_signer
from datapipe.execute._reach import Held, Reach, Stored
from datapipe.execute._receipt import STATEMENT, Remedy, sign_receipts
from datapipe.execute._record import Keeper, Record, now
from datapipe.execute._scrub import (
    Own,
    file_holds,
    free_texts,
    own_texts,
    own_values,
    redacted_body,
    skeleton,
    statement_holds,
)
from datapipe.lineage.erasing import Erasing, what_is_left
from datapipe.lineage.erasures import ERASED_REASON, ERASURE
from datapipe.lineage.objects import bare
from datapipe.lineage.store import Lineage
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.signers import AnySigner

Models = Literal["mark", "retire"]


@dataclass(frozen=True, eq=False)
class Erasure:
    """What an erasure did, or would do.

    Args:
        reach: Where the rows were.
        done: Whether it was carried out.
        erasure_id: Its id; empty when nothing was done.
        commitment: sha256 of salt and id.
        salt: The salt, hexadecimal; whoever keeps it can show that the receipt is theirs.
        receipt: Digest of the signed receipt.
        remedies: Digest of each thing to what was done about it.
        replaced: Digest of each data set or table to what took its place.
        redacted: How many records of the journal lost content.
        retired: Files and statements that told of the person and were removed whole.

    Example:
        >>> Erasure(Reach(pl.Series([], dtype=pl.UInt64))).done
        False
    """

    reach: Reach
    done: bool = False
    erasure_id: str = ""
    commitment: str = ""
    salt: str = ""
    receipt: str = ""
    remedies: Mapping[str, Remedy] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)
    redacted: int = 0
    retired: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values; it does not name the person.

        Returns:
            A dictionary.

        Example:
            >>> Erasure(Reach(pl.Series([], dtype=pl.UInt64))).to_json()["rows"]
            0
        """
        held = [
            h.to_json()
            | {"remedy": self.remedies.get(h.digest, "")}
            | {"replaced_by": self.replaced.get(h.digest, "")}
            for h in self.reach.held
        ]
        return {
            "erased": self.done,
            "erasure_id": self.erasure_id,
            "rows": self.reach.rows,
            "row_ids": self.reach.row_ids.to_list(),
            "datasets": [h for h in held if h["kind"] == "dataset"],
            "tables": [h for h in held if h["kind"] == "table"],
            "models": [h for h in held if h["kind"] == "model"],
            "exports": [h for h in held if h["kind"] == "export"],
            "records_redacted": self.redacted,
            "retired": [*(h["digest"] for h in held if h["kind"] == "file"), *self.retired],
            "sources_outside": [dict(s) for s in self.reach.sources],
            "not_looked": list(self.reach.not_looked),
            "commitment": self.commitment,
            "salt": self.salt,
            "receipt": self.receipt,
        }


def erase(
    lineage: Lineage,
    subject: str,
    *,
    carry_out: bool = False,
    models: Models = "mark",
    signer: AnySigner | None = None,
) -> Erasure:
    """Find what a person's rows reached and, when told so, take it out.

    Files that the rows were read from lie outside the store and are named, not changed; when one is
    read again as it was, the rows are set aside before anything is stored. Nothing is taken out
    before the journal says so; after a crash the same call goes on.

    Args:
        lineage: The store.
        subject: The person's id, as it stands in the column of the role `subject`.
        carry_out: Whether to erase; otherwise nothing is changed.
        models: Whether models that the rows trained are marked or removed with their exports.
        signer: Who signs the receipt; None for the key that signs runs.

    Returns:
        What was found and what was done.

    Raises:
        DeclarationError: No data set names a column for the role `subject`, or the id is empty.
        ExecutionError: A run is going on, or the disk is full.
        TrustError: After all is done something of the person is still there.

    Example:
        >>> import tempfile
        >>> import pyarrow as pa
        >>> from datapipe.core.pipeline import Pipeline
        >>> from datapipe.core.roles import Roles
        >>> from datapipe.core.stage import RowStage
        >>> from datapipe.execute.local import LocalExecutor
        >>> store = Path(tempfile.mkdtemp())
        >>> rows = Dataset.of(pa.table({"who": ["ada", "bob"]}), Roles.of(subject="who"))
        >>> plan = Pipeline("p", [RowStage()]).plan(rows)
        >>> _ = LocalExecutor().run(plan, data=rows, seed=7, store=store)
        >>> erase(Lineage(store), "ada", carry_out=True).reach.rows
        1
        >>> erase(Lineage(store), "ada").reach.rows
        0
    """
    if not carry_out:
        return Erasure(Stored(lineage).reach(subject))
    with lineage.erasing() as erasing:
        known = Stored(lineage)
        reach = known.reach(subject)
        if not reach.rows:
            erasing.clear()  # an erasure that a crash cut short may have left an older index,
            sign_receipts(lineage, signer or run_signer(lineage.store))  # and no receipt
            return Erasure(reach)
        work = _Work(lineage, erasing, known, reach, subject)
        try:
            return work.carried_out(models, signer)
        finally:
            shutil.rmtree(work.keeper.scratch, ignore_errors=True)


class _Work:
    """One erasure while it is carried out."""

    def __init__(
        self, lineage: Lineage, erasing: Erasing, known: Stored, reach: Reach, subject: str
    ) -> None:
        self.lineage = lineage
        self.erasing = erasing
        self.known = known
        self.reach = reach
        self.subject = subject
        self.keeper = Keeper(lineage, lineage.scratch())
        self.erasure_id = f"erase-{uuid.uuid4().hex[:12]}"
        self.step_id = f"{self.erasure_id}/0"
        self.requested_at = now()
        self.effects: list[dict[str, Any]] = []

    def carried_out(self, models: Models, signer: AnySigner | None) -> Erasure:
        """Write what replaces, say what goes, take it out, sign."""
        values = own_values(list(self._frames(mine=True)), list(self._frames(mine=False)))
        own = self._own()
        replaced = {h.digest: self._rewritten(h) for h in self.reach.held if h.kind in _ROWS}
        replaced = {old: new for old, new in replaced.items() if old != new}
        remedies = self._remedies(models, set(replaced))
        retired = self._files_that_tell(own, Own(self.subject, values), set(remedies))
        remedies |= {d: "retired" for d in retired if d in remedies}
        for held in self.reach.held:
            if held.digest in remedies:
                self._effect(held, remedies[held.digest], replaced.get(held.digest, ""))
        for digest, kind in retired.items():
            if digest not in remedies:
                self._effect(Held(kind, digest, bare(digest)[:12], 0), "retired", "")
        left = self._redactions(own)
        salt = secrets.token_bytes(32)
        commitment = hashlib.sha256(salt + self.subject.encode()).hexdigest()
        self.lineage.append([*self._records(commitment), *self._replacements(replaced)])
        self.erasing.redact(left)
        for digest in self._leaving(remedies, retired):
            self.erasing.remove(digest)
        self.erasing.clear()
        self._look_again()
        receipts = sign_receipts(self.lineage, signer or run_signer(self.lineage.store))
        return Erasure(
            self.reach,
            done=True,
            erasure_id=self.erasure_id,
            commitment=commitment,
            salt=salt.hex(),
            receipt=receipts[self.erasure_id],
            remedies=remedies,
            replaced=replaced,
            redacted=len(left),
            retired=tuple(retired),
        )

    def _frames(self, *, mine: bool) -> Iterator[pl.LazyFrame]:
        """The person's rows, or everybody else's, of every data set."""
        for digest in self.known.datasets:
            if ROW_ID in self.known.schemas[digest]:
                test = self._mine(digest)
                yield self.known.scan(digest).filter(test if mine else ~test)

    def _own(self) -> Own:
        asked = {t for record in self.erasing.records() for t in free_texts(record)}
        for path in self.lineage.objects.glob(f"*{STATEMENT}"):
            asked |= _told(path.read_bytes())
        return own_texts(
            self.subject, list(self._frames(mine=True)), list(self._frames(mine=False)), asked
        )

    def _rewritten(self, held: Held) -> str:
        """A data set without the rows, or a table with their ids only; the digest of either."""
        if held.kind == "table":
            lines = self.known.table(held.digest)
            return self.keeper.table(skeleton(lines, self.reach.row_ids).collect())
        kept = self.known.scan(held.digest).filter(~self._mine(held.digest))
        return self.keeper.dataset(Dataset(kept)).digest

    def _mine(self, digest: str) -> pl.Expr:
        return self.known.mine(digest, self.reach.row_ids, self.subject)

    def _remedies(self, models: Models, rewritten: set[str]) -> dict[str, Remedy]:
        """What is done about each thing; a table that held nothing but ids stays as it is."""
        after: Remedy = "retired" if models == "retire" else "pending"
        found: dict[str, Remedy] = dict.fromkeys(rewritten, "rewritten")
        for held in self.reach.held:
            if held.kind not in _ROWS:
                found[held.digest] = "retired" if held.kind == "file" else after
        return found

    def _files_that_tell(self, own: Own, all_values: Own, told: set[str]) -> dict[str, str]:
        """Objects that hold the id or values of the person and cannot be rewritten."""
        found: dict[str, str] = {}
        for name in sorted(p.name for p in self.lineage.objects.iterdir()):
            path, digest = self.lineage.objects / name, "sha256:" + bare(name)
            if digest in told and name.endswith(".parquet"):
                continue
            if name.endswith(STATEMENT):
                if statement_holds(path.read_bytes(), own):
                    found[digest] = "statement"
            elif name.endswith(".parquet"):
                schema = self.known.schemas.get(digest, {})
                rowless = ROW_ID not in schema and "row_id" not in schema
                if rowless and _table_holds(path, all_values):
                    found[digest] = "file"
            elif file_holds(path, all_values):
                found[digest] = "file"
        return found

    def _redactions(self, own: Own) -> dict[int, bytes]:
        left: dict[int, bytes] = {}
        for record in self.erasing.records():
            body = redacted_body(record, own)
            if body is not None:
                left[record.seq], digest = what_is_left(record, body)
                self.effects.append(
                    {
                        "erasure_id": self.erasure_id,
                        "kind": "record",
                        "digest": digest,
                        "name": record.kind,
                        "remedy": "redacted",
                        "record": record.seq,
                    }
                )
        return left

    def _effect(self, held: Held, remedy: str, replaced_by: str) -> None:
        self.effects.append(
            {
                "erasure_id": self.erasure_id,
                "kind": held.kind,
                "digest": held.digest,
                "name": held.name,
                "rows": held.rows,
                "remedy": remedy,
                "replaced_by": replaced_by,
            }
        )

    def _records(self, commitment: str) -> list[Record]:
        """The erasure as a run of one step that set the rows aside, so that every view knows it."""
        ids = {"run_id": self.erasure_id, "step_id": self.step_id}
        rows = pl.DataFrame({"row_id": self.reach.row_ids}).with_columns(
            reason=pl.lit(ERASED_REASON)
        )
        request = {
            "erasure_id": self.erasure_id,
            "commitment": commitment,
            "requested_at": self.requested_at,
            "rows": self.reach.rows,
            "recorded_at": now(),
        }
        step = {"position": 0, "stage": ERASURE, "shape": "whole", "rows_aside": self.reach.rows}
        return [
            ("runs", {"run_id": self.erasure_id, "pipeline": ERASURE, "started_at": now()}),
            ("steps", {**ids, **step, "recorded_at": now()}),
            ("row_drops", {**ids, "object": self.keeper.table(rows), "rows": self.reach.rows}),
            ("erasures", request),
            *(("erased", effect) for effect in self.effects),
            ("run_events", {"run_id": self.erasure_id, "event": "finished", "detail": {}}),
        ]

    def _replacements(self, replaced: Mapping[str, str]) -> Iterator[Record]:
        """What took a data set's place, recorded for every run that the old one belonged to."""
        for held in self.reach.of("dataset"):
            path = self.lineage.object_path(replaced[held.digest])
            for line in self.known.datasets[held.digest]["records"]:
                before = json.loads(line["ancestor_steps"] or "[]")
                yield (
                    "datasets",
                    {
                        "digest": replaced[held.digest],
                        "object": path.name if path else "",
                        "bytes": path.stat().st_size if path else 0,
                        "rows": line["rows"] - held.rows,
                        "step_id": self.step_id,
                        "run_id": line["run_id"],
                        "ancestor_steps": [*before, line["step_id"]],
                        **{
                            n: json.loads(line[n] or "null")
                            for n in ("schema", "roles", "source_nos")
                        },
                    },
                )

    def _leaving(self, remedies: Mapping[str, Remedy], retired: Mapping[str, str]) -> list[str]:
        """What is removed, in an order that lets the same erasure go on after a crash.

        Data sets whose columns name the person go last: by them everything else is found again.
        """
        going = [d for d, remedy in remedies.items() if remedy != "pending"]
        return sorted({*going, *retired}, key=lambda d: d in self.known.columns)

    def _look_again(self) -> None:
        """Whether it is all gone: every file that is no table is read once more."""
        after = Stored(self.lineage).reach(self.subject)
        left = [f"{h.kind} {bare(h.digest)[:12]}" for h in after.held]
        for path in sorted(self.erasing.store.rglob("*")):
            private = path.suffix in (".parquet", ".pem", ".lock")
            if path.is_file() and not private and file_holds(path, Own(self.subject)):
                left.append(str(path.relative_to(self.erasing.store)))
        if left:
            raise TrustError(
                f"{len(left)} places of the store still tell of the person: {', '.join(left[:5])}",
                code="DP-TRUST-712",
                hint="no receipt was signed; report this, and keep the store from being shared",
                path=str(self.erasing.store),
            )


_ROWS = ("dataset", "table")


def _told(data: bytes) -> set[str]:
    """The sentences of a signed statement's findings."""
    try:
        form = Envelope.from_bytes(data).statement().predicate
    except TrustError:
        return set()
    findings: list[Any] = [*form.get("findings", [])]
    for step in form.get("steps", []):
        findings += step.get("findings", [])
    return {str(f.get("says", "")) for f in findings}


def _table_holds(path: Path, own: Own) -> bool:
    """Whether a table that is not about rows holds the id or a value of the person."""
    sought = sorted({own.subject, *own.values})
    frame = pl.scan_parquet(path, glob=False)
    texts = [n for n, kind in frame.collect_schema().items() if kind == pl.String]
    if not texts:
        return False
    tests = [pl.col(n).is_in(sought).any() for n in texts]
    return bool(frame.select(pl.any_horizontal(tests)).collect().item())
