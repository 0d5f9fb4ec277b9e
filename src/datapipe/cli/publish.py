# SPDX-License-Identifier: Apache-2.0
"""`datapipe publish DIGEST DIR --key FILE`: copy an object out of the store, signed.

The copy has the bytes that lineage knows, so that `trace` finds it again by its digest. Its
attestation says where it came from: sources, licences, findings and the state of the log.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from datapipe.cli.options import STORE, Json, KeyFile, PassphraseFile, Store, existing_store
from datapipe.cli.signing import signer
from datapipe.cli.terminal import out, out_json, plain
from datapipe.core.digest import digest_file
from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError, ExecutionError, TrustError
from datapipe.lineage.store import Lineage
from datapipe.manifest.bundle import parents_path, sign_path
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.facts import FindingSummary, LogPoint, Material, Measure, Terms
from datapipe.manifest.keyring import moment
from datapipe.manifest.predicates import DatasetPredicate, RunPredicate, read_predicate
from datapipe.manifest.rows import row_tree

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_KNOWN = """
with known as (
  select digest, 'dataset' as kind, 'dataset' as name, run_id, seq, digest as dataset, rows
  from datasets
  union all
  select model_id, 'model', name, run_id, seq, dataset, null from models
  union all
  select e.export_id, 'export', e.name, e.run_id, e.seq, m.dataset, null
  from exports e left join models m on m.model_id = e.model
)
select k.*, r.pipeline from known k left join runs r using (run_id)
where starts_with(k.digest, $digest) or starts_with(k.digest, 'sha256:' || $digest)
qualify row_number() over (partition by k.digest order by k.seq desc) = 1
"""


@app.command()
def _publish(
    digest: Annotated[
        str, typer.Argument(metavar="DIGEST", help="Of a data set, model or export; may be cut.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the copy goes.")],
    *,
    key: KeyFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    lineage = Lineage(existing_store(store))
    found = _found(lineage, digest)
    signs = signer(key, passphrase_file)
    copy = _copied(lineage, found, folder)
    run = _run_statement(lineage, found)
    told = _told(lineage, found, run)
    if found["kind"] == "dataset":
        rows, tree = row_tree(copy)
        told = replace(told, rows=rows, row_tree=tree)
    signed = sign_path(copy, signs, predicate=told)
    parents = _write_parents(lineage, found, run, copy)
    beside = [str(f) for f in (signed.openssf, signed.attestation, parents) if f is not None]
    if as_json:
        out_json({"path": str(copy), "digest": found["digest"], "signatures": beside})
        return
    out(plain(f"published {found['kind']} {found['digest'][:19]} as {copy}"))
    for line in (*beside, signed.says):
        if line:
            out(plain(f"  {line}"))


def _found(lineage: Lineage, digest: str) -> Mapping[str, Any]:
    """The one object that a digest, or its beginning, names."""
    known = lineage.sql(_KNOWN, digest=digest)
    if known.height != 1:
        raise DeclarationError(
            f"{known.height} objects have a digest that begins with {digest!r}, one was expected",
            code="DP-USE-032",
            hint="datapipe sql 'select digest, rows from datasets' lists them",
        )
    return known.row(0, named=True)


def _copied(lineage: Lineage, found: Mapping[str, Any], folder: Path) -> Path:
    """The object under a readable name, its bytes checked on the way out."""
    source = lineage.object_path(found["digest"])
    if source is None:
        raise TrustError(
            f"the store has no object {found['digest']}",
            code=Reason.MISSING.value,
            hint="datapipe verify names what else is missing",
            path=str(lineage.objects),
        )
    short = found["digest"].removeprefix("sha256:")[:12]
    stem = f"{found['pipeline'] or 'run'}-{found['name']}-{short}".replace("/", "_")
    target = folder / f"{stem}{source.suffix}"
    partial = target.with_name(f".{target.name}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ExecutionError(
            f"{target} cannot be written: {error.strerror}",
            code="DP-EXEC-071",
            hint="choose a folder that you may write to, with enough space",
        ) from error
    if digest_file(partial) != found["digest"]:
        partial.unlink()
        raise TrustError(
            f"the object {source} has other content than its digest says",
            code=Reason.CHANGED.value,
            hint="do not use this store; run the pipeline again in another one",
            path=str(source),
        )
    partial.replace(target)
    return target


def _run_statement(lineage: Lineage, found: Mapping[str, Any]) -> Envelope | None:
    """What the run that made the object signed; None when it did not come to that."""
    lines = lineage.sql(
        "select digest from attestations where run_id = $run and predicate_type = $type "
        "order by seq desc limit 1",
        run=found["run_id"],
        type=RunPredicate.uri,
    )
    path = lineage.object_path(lines["digest"][0]) if lines.height else None
    return None if path is None else Envelope.load(path)


def _write_parents(
    lineage: Lineage, found: Mapping[str, Any], run: Envelope | None, copy: Path
) -> Path | None:
    """The statements that lead back to the sources, beside the copy: an in-toto bundle."""
    target = parents_path(copy)
    lines = lineage.sql(
        "select distinct digest from artifacts where run_id = $run and kind = 'parent'",
        run=found["run_id"],
    )
    paths = [lineage.object_path(digest) for digest in sorted(lines["digest"].to_list())]
    signed = [Envelope.load(path) for path in paths if path is not None]
    envelopes = [*([run] if run else []), *signed]
    if not signed:  # nobody signed a source: our own run alone is no chain
        target.unlink(missing_ok=True)  # of an earlier copy
        return None
    target.write_bytes(b"".join(envelope.to_bytes() for envelope in envelopes))
    return target


def _made_from(found: Mapping[str, Any], run: Envelope | None) -> tuple[Material, ...]:
    """The run's statement about these very bytes, and what the run read, as it signed it."""
    if run is None:
        return ()
    statement = run.statement()
    said = read_predicate(statement)
    digest = {"sha256": found["digest"].removeprefix("sha256:")}
    held = any(dict(subject.digests) == digest for subject in statement.subjects)
    own = Material(f"run {found['run_id']}", digest, statement.digest, found["rows"])
    read = said.materials if isinstance(said, RunPredicate) else ()
    return (own, *read) if held else read


def _told(lineage: Lineage, found: Mapping[str, Any], signed: Envelope | None) -> DatasetPredicate:
    """What the attestation says, all of it taken from the store."""
    run, dataset = found["run_id"], found["dataset"] or ""
    sources = lineage.sql(
        "select name, digest, rows, licence from sources where run_id = $run", run=run
    ).to_dicts()
    share = lineage.sql(
        "select declared_share from synthetic_share where dataset = $dataset and run_id = $run",
        dataset=dataset,
        run=run,
    )
    findings = lineage.sql("from findings where run_id = $run order by seq", run=run).to_dicts()
    size, root = lineage.root()
    return DatasetPredicate(
        f"{found['pipeline']}/{found['name']}",
        recorded_at=moment(datetime.now(UTC)),
        rows=found["rows"],
        description=f"{found['kind']} of run {run}",
        materials=_made_from(found, signed)
        or tuple(
            Material(s["name"], {"sha256": s["digest"].removeprefix("sha256:")}, rows=s["rows"])
            for s in sources
        ),
        terms=Terms(licences=tuple(sorted({s["licence"] for s in sources if s["licence"]}))),
        declared_synthetic_share=share["declared_share"][0] if share.height else None,
        findings=tuple(_summary(f) for f in findings),
        log=LogPoint("datapipe/store", size, root.hex()),
    )


def _summary(line: Mapping[str, Any]) -> FindingSummary:
    names = ("value", "low", "high", "n", "method", "level", "unit")
    measure = Estimate.from_json({name: line[name] for name in names})
    return FindingSummary(
        line["kind"],
        line["verdict"],
        line["severity"],
        line["says"],
        Measure.of(measure),
        line["remedy"],
    )
