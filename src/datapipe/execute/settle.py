# SPDX-License-Identifier: Apache-2.0
"""What an erasure left pending: models that the rows trained, until they are trained anew or go.

A pending model is settled by a newer one of the same name and pipeline that none of the erased rows
trained; an export by the newer model's export of the same name. The old file then leaves the store,
and a second receipt tells of it: the erasure is complete once nothing is pending.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from datapipe.errors import TrustError
from datapipe.execute._attest import run_signer
from datapipe.execute._reach import Stored
from datapipe.execute._receipt import Remedy, sign_receipts
from datapipe.lineage.store import Lineage
from datapipe.manifest.signers import AnySigner


@dataclass(frozen=True)
class Settled:
    """A model or export that an erasure left pending, and what becomes of it.

    Args:
        erasure_id: The erasure.
        kind: `model` or `export`.
        digest: Its digest.
        name: Its name.
        rows: How many of the erased rows trained it.
        remedy: `retrained`, `retired`, or still `pending`.
        replaced_by: Digest of what took its place; empty for nothing.

    Example:
        >>> Settled("erase-1", "model", "sha256:ab", "plain", 3).remedy
        'pending'
    """

    erasure_id: str
    kind: str
    digest: str
    name: str
    rows: int
    remedy: Remedy = "pending"
    replaced_by: str = ""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values.

        Returns:
            A dictionary.

        Example:
            >>> Settled("erase-1", "model", "sha256:ab", "plain", 3).to_json()["rows"]
            3
        """
        return asdict(self)


@dataclass(frozen=True)
class Settlement:
    """What was pending in a store, and what became of it.

    Args:
        things: Each model and export that was pending.
        done: Whether it was carried out.
        receipts: Id of an erasure to the digest of its new receipt.

    Example:
        >>> Settlement(()).things
        ()
    """

    things: tuple[Settled, ...]
    done: bool = False
    receipts: dict[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values.

        Returns:
            A dictionary.

        Example:
            >>> Settlement(()).to_json()
            {'settled': False, 'things': [], 'receipts': {}}
        """
        return {
            "settled": self.done,
            "things": [t.to_json() for t in self.things],
            "receipts": dict(self.receipts or {}),
        }


def settle(
    lineage: Lineage,
    *,
    carry_out: bool = False,
    retire: bool = False,
    signer: AnySigner | None = None,
) -> Settlement:
    """Find what erasures left pending and, when told so, settle what can be.

    Args:
        lineage: The store.
        carry_out: Whether to do it; otherwise nothing is changed.
        retire: Whether what was not trained anew leaves too.
        signer: Who signs the receipts; None for the key that signs runs.

    Returns:
        Each pending thing with what became of it, or would.

    Raises:
        DeclarationError: No data set names a column for the role `subject`.
        ExecutionError: A run is going on, or the disk is full.

    Example:
        >>> import tempfile
        >>> store = tempfile.mkdtemp()
        >>> settle(Lineage(store, create=True)).things
        ()
    """
    if not carry_out:
        return Settlement(_found(lineage, retire=retire))
    with lineage.erasing() as erasing:
        things = _found(lineage, retire=retire)
        going = [t for t in things if t.remedy != "pending"]
        if going:
            lineage.append([("erased", t.to_json()) for t in going])
        gone = [d for d in lineage.sql(_GONE)["digest"] if lineage.object_path(d) is not None]
        for digest in gone:
            erasing.remove(digest)
        if gone or going:
            erasing.clear()
        receipts = sign_receipts(lineage, signer or run_signer(lineage.store))
    return Settlement(things, done=bool(going), receipts=receipts)


_GONE = """
select distinct e.digest from erased e
where e.kind in ('model', 'export') and e.remedy in ('retrained', 'retired')
  and coalesce(e.replaced_by, '') <> e.digest  -- another run may have made the same bytes
  and not exists (from models m where m.model_id = e.digest and m.seq > e.seq)
  and not exists (from exports x where x.export_id = e.digest and x.seq > e.seq)
"""
"""What the journal says is gone: a crash may have left some of it, and the next call goes on."""


def _found(lineage: Lineage, *, retire: bool) -> tuple[Settled, ...]:
    pending = lineage.sql("from erased_models where remedy = 'pending' order by all").to_dicts()
    return tuple(_Newer(lineage).settled(pending, retire=retire)) if pending else ()


class _Newer:
    """Models and exports of a store, looked at for successors of those that are pending."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self.stored = Stored(lineage)
        self.models = lineage.sql(
            "select m.*, r.pipeline from models m join runs r using (run_id) order by m.seq desc"
        ).to_dicts()
        self.exports = lineage.sql("from exports order by seq desc").to_dicts()

    def settled(self, pending: list[dict[str, Any]], *, retire: bool) -> Iterator[Settled]:
        """Each pending thing with its successor."""
        otherwise: Remedy = "retired" if retire else "pending"
        for line in pending:
            erasure, digest, name = line["erasure_id"], line["digest"], line["name"]
            if line["kind"] == "model":
                after = self._model(erasure, digest)
            else:
                after = self._export(erasure, digest)
            remedy: Remedy = "retrained" if after else otherwise
            yield Settled(erasure, line["kind"], digest, name, line["rows"], remedy, after)

    def _model(self, erasure: str, digest: str) -> str:
        """The newest model of the same name and pipeline that the erased rows did not train."""
        since, ids = self._erasure(erasure)
        alike = {(m["name"], m["pipeline"]) for m in self.models if m["model_id"] == digest}
        for model in self.models:
            newer = (model["name"], model["pipeline"]) in alike and model["seq"] > since
            if not newer or self.lineage.object_path(model["model_id"]) is None:
                continue
            try:
                if not self.stored.trained_on(model, ids):
                    return str(model["model_id"])
            except TrustError:  # its data set is not here: nobody can say what trained it
                continue
        return ""

    def _export(self, erasure: str, digest: str) -> str:
        """The export of the same name that was made of the model's successor."""
        for old in (e for e in self.exports if e["export_id"] == digest):
            made_of = {m["model_id"] for m in self.models if _made(old, m)}
            after = {self._model(erasure, model) for model in made_of}
            for export in self.exports:
                of = {m["model_id"] for m in self.models if _made(export, m)}
                if export["name"] == old["name"] and of & after:
                    return str(export["export_id"])
        return ""

    def _erasure(self, erasure: str) -> tuple[int, pl.Series]:
        """Since which record of the journal an erasure counts, and the rows it took out."""
        since = self.lineage.sql(
            "select seq from erasures where erasure_id = $id", id=erasure
        ).item()
        drops = self.lineage.sql("select row_id from dropped_rows where run_id = $id", id=erasure)
        return int(since), drops["row_id"].cast(pl.UInt64)


def _made(export: dict[str, Any], model: dict[str, Any]) -> bool:
    """Whether an export was made of a model, which it names by digest or within its run."""
    by_name = export["model"] == model["name"] and export["run_id"] == model["run_id"]
    return by_name or bool(export["model"] == model["model_id"])
