# SPDX-License-Identifier: Apache-2.0
"""`datapipe erase --subject ID`: what a person's rows reached; with `--yes`, take it out.

Models that the rows trained are marked; after training anew, `datapipe erase --settle --yes` takes
the old ones out and signs that the erasure is complete.

Without `--yes` nothing is changed. The id is never printed and never kept: the receipt holds a
salted commitment, whose salt is shown once. Give the id with `--subject-file` where a command line
is recorded. Exits 0 when it is done or would be, also when nobody of that id is known; 2 when no
data set names a column for persons; 4 when something is left; 6 while a run is going on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from datapipe.cli.options import (
    STORE,
    Json,
    KeyFile,
    PassphraseFile,
    Store,
    existing,
    existing_store,
)
from datapipe.cli.signing import signer
from datapipe.cli.terminal import note, out, out_json, plain
from datapipe.errors import DeclarationError
from datapipe.execute.erase import Erasure, erase
from datapipe.execute.settle import Settlement, settle
from datapipe.lineage.store import Lineage
from datapipe.manifest.plain import content

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _erase(
    *,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="ID", help="The person, as in the data.")
    ] = None,
    subject_file: Annotated[
        Path | None,
        typer.Option("--subject-file", metavar="FILE", help="A file with the id; - for stdin."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without, only say what would be.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done (the default).")
    ] = False,
    retire_models: Annotated[
        bool,
        typer.Option(
            "--retire-models", help="Remove models they trained, instead of marking them."
        ),
    ] = False,
    settle_pending: Annotated[
        bool,
        typer.Option("--settle", help="Close erasures whose models were trained anew since."),
    ] = False,
    key: KeyFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    if yes and dry_run:
        raise DeclarationError(
            "--yes and --dry-run exclude each other", code="DP-USE-050", hint="leave one out"
        )
    person = "" if settle_pending else _person(subject, subject_file)
    if settle_pending and (subject is not None or subject_file is not None):
        raise DeclarationError(
            "--settle is about every erasure and names nobody",
            code="DP-USE-052",
            hint="leave out --subject and --subject-file",
        )
    lineage = Lineage(existing_store(store))
    signs = signer(key, passphrase_file) if key is not None and yes else None
    if settle_pending:
        settled = settle(lineage, carry_out=yes, retire=retire_models, signer=signs)
        if as_json:
            out_json(settled.to_json())
        else:
            _tell_settled(settled)
        return
    done = erase(
        lineage,
        person,
        carry_out=yes,
        models="retire" if retire_models else "mark",
        signer=signs,
    )
    if as_json:
        path = lineage.object_path(done.receipt) if done.receipt else None
        out_json({**done.to_json(), "receipt_file": str(path or "")})
    else:
        _tell(done, lineage)


def _person(subject: str | None, file: Path | None) -> str:
    if (subject is None) == (file is None):
        raise DeclarationError(
            "one person must be named",
            code="DP-USE-051",
            hint="--subject ID or --subject-file FILE",
        )
    if subject is not None:
        return subject
    text = sys.stdin.read() if str(file) == "-" else content(existing(str(file))).decode()
    return text.removesuffix("\n").removesuffix("\r")


def _tell(done: Erasure, lineage: Lineage) -> None:
    reach = done.reach
    if not reach.rows:
        out("no row of this store is about that person")
        return
    told = "erased" if done.done else "would be erased"
    out(f"{reach.rows:,} rows of {len(reach.sources)} sources {told}")
    for kind in ("dataset", "table", "model", "export"):
        for held in reach.of(kind):
            remedy = done.remedies.get(held.digest, "")
            where = f", batches {_few(held.batches)}" if held.batches else ""
            says = f"  {kind:8} {held.digest[:19]}  {held.rows:,} rows{where}  {remedy}"
            out(plain(says.rstrip()))
    for digest in done.retired:
        out(plain(f"  retired  {digest[:19]}  told of the person"))
    if done.redacted:
        out(f"  journal  {done.redacted:,} records redacted")
    for source in reach.sources:
        note(f"outside the store, still there: {source['uri']} ({source['rows']:,} rows)")
    if reach.not_looked:
        note(f"{len(reach.not_looked)} data sets name no person; only row ids were followed there")
    if not done.done:
        note("nothing was changed; --yes does it")
        return
    out(plain(f"receipt {done.receipt[:19]} at {lineage.object_path(done.receipt)}"))
    out(f"salt {done.salt}")
    note("the salt is not kept: with it the person can show that the receipt is theirs")


def _tell_settled(settled: Settlement) -> None:
    if not settled.things:
        out("no erasure is pending")
        return
    for thing in settled.things:
        after = f" by {thing.replaced_by[:19]}" if thing.replaced_by else ""
        says = f"  {thing.kind:8} {thing.name}  {thing.digest[:19]}  {thing.remedy}{after}"
        out(plain(f"{says}  ({thing.rows:,} erased rows)"))
    left = sum(thing.remedy == "pending" for thing in settled.things)
    for erasure, receipt in (settled.receipts or {}).items():
        out(plain(f"receipt of {erasure} {receipt[:19]}"))
    if left:
        note(f"{left} still pending: run the pipeline again, or --retire-models takes them out")
    if left < len(settled.things) and not settled.done:
        note("nothing was changed; --yes does it")


def _few(numbers: tuple[int, ...]) -> str:
    shown = ", ".join(str(n) for n in numbers[:4])
    return f"{shown}, …" if len(numbers) > 4 else shown
