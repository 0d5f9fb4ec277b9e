# SPDX-License-Identifier: Apache-2.0
"""`datapipe audit FILE --label COL`: say what is wrong with a file, and change nothing.

Exits 3 when the verdict is *fail*, unless `--no-fail`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datapipe.cli.audit_plan import Beside, audit_pipeline, is_table, unseen
from datapipe.cli.findings import show
from datapipe.cli.options import STORE, Json, Seed, Store, existing, local
from datapipe.cli.terminal import note, out_json, settle
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.core.run import Run
from datapipe.errors import DeclarationError, nearest
from datapipe.manifest.keys import load_public_keys

MOST_NAMED = 5

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _audit(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV, JSONL, Parquet or Arrow.")],
    *,
    label: Annotated[
        str | None, typer.Option(metavar="COL", help="What is to be predicted.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="COL", help="A text; twice for a prompt and its response."),
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="COL", help="Pixels, or a pattern: 'px_*'.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="Groups to treat alike; repeatable.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="COL", help="Where a row came from.")
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(metavar="COL", help="Who gave the label.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="COL", help="The person a row is about.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COL", help="Your own row key.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Rows known to be good (people's), to compare with."),
    ] = None,
    anchors: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Rows known to be machine-made, to compare with."),
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="COL", help="When a row was made.")] = None,
    snapshot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Signed table of the items as they were.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Public key of a trusted signer; repeatable."),
    ] = None,
    on_error: Annotated[
        str, typer.Option(metavar="WHAT", help="Broken records: refuse or quarantine.")
    ] = "refuse",
    missing_labels: Annotated[
        str, typer.Option(metavar="WHAT", help="Rows without a label: refuse or quarantine.")
    ] = "refuse",
    separator: Annotated[
        str | None,
        typer.Option(metavar="CHAR", help="Between the fields of a CSV file, such as ';'."),
    ] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Train a small model with and without what is found.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write a report (HTML).")
    ] = None,
    no_fail: Annotated[bool, typer.Option("--no-fail", help="Exit 0 even when it fails.")] = False,
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 0,
) -> None:
    _one_of("--on-error", on_error)
    _one_of("--missing-labels", missing_labels)
    roles = _roles(
        label=label, text=text, image=image, group=group, source=source, annotator=annotator,
        subject=subject, id=id_column, time=time,
    )  # fmt: skip
    if snapshot and not (key and id_column):
        raise DeclarationError(
            "a snapshot is compared item by item and needs a signer who is trusted",
            code="DP-USE-053",
            hint="name the items with --id COL and the signer's public key with --key FILE",
        )
    if prove and not label:
        raise DeclarationError(
            "what a trigger does is proved on its label, and no label is named",
            code="DP-USE-093",
            hint="name the column of labels with --label COL",
        )
    mark = (separator or "").replace(r"\t", "\t")  # what a person types for a tab
    if separator is not None and not (len(mark) == 1 and mark.isascii()):
        raise DeclarationError(
            f"--separator {separator!r} is not one ASCII character",
            code="DP-USE-094",
            hint=r"leave it out for a comma, or give --separator ';' or --separator '\t'",
        )
    if output is not None:
        from datapipe.report.html import refuse_place  # noqa: PLC0415 - only where one is asked for

        refuse_place(output)  # else an hour's audit would end without its verdict on stdout
    good = None if reference is None else local(reference)
    made = None if anchors is None else local(anchors)
    trusted = tuple(existing(k) for k in key or ())
    for file_of_keys in trusted:  # a wrong one is told before a store is made
        load_public_keys(file_of_keys)
    signed = None if snapshot is None else existing(snapshot)
    beside = Beside(good, made, trusted, on_error, missing_labels, store, signed, prove, mark)
    run = audit_pipeline(file, roles, beside=beside).run(seed=seed, store=store)
    if output is not None:
        run.report(output)
    settle(run)
    _own_up(run.data)
    if source and annotator:
        note(
            f"poisoning.source_shift judges the values of {source} (--source) and of {annotator}"
            " (--annotator) alike; what it names tells the column"
        )
    if as_json:
        out_json(run.to_json())
    else:
        _show(run, file, roles, seed, output)
    if run.verdict == "fail" and not no_fail:
        raise typer.Exit(3)


def _one_of(option: str, given: str) -> None:
    """Refuse a word that names nothing to be done, whether or not this file's reader would ask."""
    if given not in ("refuse", "quarantine"):
        raise DeclarationError(
            f"{option} {given!r} is neither refuse nor quarantine",
            code="DP-USE-099",
            hint=nearest(given, ("refuse", "quarantine")),
        )


def _roles(**named: str | list[str] | None) -> Roles:
    """The roles of named columns; an empty name, as of a shell's unset variable, is refused."""
    given = {r: (c,) if isinstance(c, str) else tuple(c) for r, c in named.items() if c is not None}
    for role, columns in given.items():
        if "" in columns:
            raise DeclarationError(
                f"--{role} '' names no column",
                code="DP-USE-096",
                hint="leave the option out, or look whether the variable behind it is set",
            )
    return Roles(given)


def _own_up(data: Dataset) -> None:
    """Say which columns were passed over: what was not looked at is not clean."""
    columns = unseen(data)
    if columns:
        why = "lists, maps, structs or bytes" if is_table(data.roles) else "columns without a role"
        more = f" and {len(columns) - MOST_NAMED} more" if len(columns) > MOST_NAMED else ""
        named = ", ".join(columns[:MOST_NAMED]) + more
        note(f"not looked into: {named} ({why})")


def _show(run: Run, file: str, roles: Roles, seed: int, output: Path | None) -> None:
    played = " ".join(f"{r}={'+'.join(c)}" for r, c in roles.columns.items())
    shape = "; a table, as no --text or --image" if is_table(roles) else ""
    store = "" if run.store == STORE else f" --store {run.store}"
    later = f"report: {output}" if output else f"next: datapipe report -o report.html{store}"
    show(
        run,
        headline=f"audit {file}  {len(run.data):,} rows  {played}{shape}  seed {seed}",
        closing=[f"{later}  ·  datapipe sql 'from findings'{store}"],
    )
