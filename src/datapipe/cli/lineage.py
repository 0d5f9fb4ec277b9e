# SPDX-License-Identifier: Apache-2.0
"""`datapipe lineage rebuild|gc|export`: the index anew, leftovers out, tables for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import polars.selectors as cs
import typer

from datapipe.cli.lineage_forms import FORMS, Credentials
from datapipe.cli.options import STORE, Json, KeyFile, PassphraseFile, Store, existing_store
from datapipe.cli.terminal import out, out_json, plain
from datapipe.errors import DatapipeError, DeclarationError, ExecutionError, nearest
from datapipe.integrations.facts import facts_of
from datapipe.lineage.store import Lineage

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_WHOLE = ("parquet", "jsonl")
"""Forms of the whole store, table by table."""
_TABLES = "select table_name from information_schema.tables where table_schema = 'main'"


@app.command("rebuild", help="Make the SQL index anew from the journal, which is the truth.")
def _rebuild(
    *,
    accept_loss: Annotated[
        bool,
        typer.Option("--accept-loss", help="Go on though the journal itself is cut or damaged."),
    ] = False,
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    lineage = Lineage(existing_store(store))
    lineage.rebuild(accept_loss=accept_loss)
    records = int(lineage.sql("select count(*) as n from log_entries")["n"][0])
    if as_json:
        out_json({"store": str(store), "records": records})
    else:
        out(f"rebuilt the index of {store} from {records:,} records")


@app.command("gc", help="Remove files of the store that nothing needs; shows them first.")
def _gc(
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Do it; without, only show.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show; the default.")] = False,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="HOURS", min=0.0, help="Spare younger files.")
    ] = 1.0,
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    if remove and dry_run:
        raise DeclarationError(
            "--remove and --dry-run together", code="DP-USE-032", hint="give one of them"
        )
    lineage = Lineage(existing_store(store))
    found = lineage.gc(dry_run=not remove, older_than_s=older_than * 3600)
    freed = sum(g.size_bytes for g in found)
    if as_json:
        files = [
            {"path": str(g.path.relative_to(store)), "bytes": g.size_bytes, "says": g.says}
            for g in found
        ]
        out_json({"removed": remove, "bytes": freed, "files": files})
        return
    for g in found:
        out(plain(f"{g.path}  {g.size_bytes:,} bytes  {g.says}"))
    done = "removed" if remove else "would be removed; --remove does it"
    out(f"{len(found)} files, {freed:,} bytes {done}")


@app.command("export", help="Write the store, or one run of it, in the form of other tools.")
def _export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    *,
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help=", ".join((*_WHOLE, *FORMS)))
    ] = "parquet",
    run: Annotated[
        str, typer.Option("--run", metavar="RUN", help="Which run; the newest when not given.")
    ] = "",
    key: KeyFile = None,
    passphrase_file: PassphraseFile = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate", metavar="FILE", help="For c2pa: the key's X.509 chain (PEM)."
        ),
    ] = None,
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    if form not in (*_WHOLE, *FORMS):
        raise DeclarationError(
            f"there is no format {form!r}",
            code="DP-USE-030",
            hint=nearest(form, (*_WHOLE, *FORMS)),
        )
    if form in _WHOLE and (run or key or certificate):
        raise DeclarationError(
            f"--format {form} writes the whole store, unsigned: --run, --key and --certificate"
            " are of no use there",
            code="DP-USE-103",
            hint=f"leave them out, or choose one of {', '.join(FORMS)}",
        )
    lineage = Lineage(existing_store(store))
    credentials = Credentials(key, passphrase_file, certificate)
    if form in FORMS:
        facts = facts_of(lineage, run)
        credentials.check(form)
        made = _fresh(folder)
        try:
            files = FORMS[form](lineage, facts, folder, credentials)
        except DatapipeError:
            if made and not any(folder.iterdir()):  # what is refused leaves nothing
                folder.rmdir()
            raise
        if as_json:
            out_json({"folder": str(folder), "run": facts.run_id, "files": [str(f) for f in files]})
        else:
            out(plain(f"run {facts.run_id} written as {form}: {', '.join(map(str, files))}"))
        return
    _fresh(folder)
    written = {}
    for name in sorted(lineage.sql(_TABLES)["table_name"].to_list()):
        frame = lineage.sql(f'from "{name}"')
        target = folder / f"{name}.{form}"
        if form == "parquet":
            frame.write_parquet(target)
        else:
            frame.with_columns(cs.binary().bin.encode("hex")).write_ndjson(target)
        written[name] = frame.height
    if as_json:
        out_json({"folder": str(folder), "rows": written})
    else:
        out(plain(f"{len(written)} tables, {sum(written.values()):,} lines written to {folder}"))


def _fresh(folder: Path) -> bool:
    """Make the folder, and say whether it is new; one that holds something is left alone."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExecutionError(
            f"{folder} cannot be made: {error.strerror}",
            code="DP-EXEC-070",
            hint="choose a folder that you may write to",
        ) from error
    if any(folder.iterdir()):
        raise DeclarationError(
            f"{folder} is not empty", code="DP-USE-031", hint="name a new folder"
        )
    return new
