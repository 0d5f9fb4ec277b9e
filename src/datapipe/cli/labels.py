# SPDX-License-Identifier: Apache-2.0
"""`datapipe labels …`: which labels look wrong, how many, and a copy of the file without them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from datapipe.cli.audit_plan import Beside, reader_of
from datapipe.cli.findings import figure
from datapipe.cli.labels_crowd import aggregate
from datapipe.cli.labels_files import File, Image, Label, Output, Text, known_format, write_table
from datapipe.cli.options import STORE, Json, Seed, Store
from datapipe.cli.terminal import out, out_json, painted, plain, settle, table
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import ROW_ID, Roles
from datapipe.core.run import Run
from datapipe.core.stage import OnFinding
from datapipe.errors import DeclarationError
from datapipe.stages import find

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.command("issues", help="Rows whose label looks wrong, the surest first, with a suggestion.")
def _issues(
    file: File,
    *,
    label: Label,
    text: Text = "",
    image: Image = "",
    most: Annotated[int, typer.Option(metavar="N", min=0, help="Lines shown on screen.")] = 20,
    output: Output = None,
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 0,
) -> None:
    if output is not None:
        known_format(output)
    run = _judged(file, Roles.of(label=label, text=text, image=image), "note", seed, store)
    found = _flagged(run)
    if output is not None:
        write_table(found, output, for_people=True)
    if as_json:
        out_json({**_head(run), "issues": found.to_dicts()})
        return
    out(_line(run))
    if found.height:
        shown = found.head(most).select("row", "score", "given", "suggested")
        out(table(shown.columns, shown.rows()))
    if found.height > most:
        out(f"and {found.height - most:,} more; -o FILE writes all, --json prints all")


@app.command("noise-rate", help="How many labels are wrong, with the interval the data allows.")
def _noise_rate(
    file: File,
    *,
    label: Label,
    text: Text = "",
    image: Image = "",
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 0,
) -> None:
    run = _judged(file, Roles.of(label=label, text=text, image=image), "note", seed, store)
    if as_json:
        out_json(_head(run))
    else:
        out(_line(run))


@app.command("relabel", help="Write a copy in which labels that look wrong are replaced.")
def _relabel(
    file: File,
    *,
    label: Label,
    output: Output,
    text: Text = "",
    image: Image = "",
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 0,
) -> None:
    if output is None:
        raise DeclarationError("no output is named", code="DP-USE-040", hint="-o cleaned.parquet")
    known_format(output)
    run = _judged(file, Roles.of(label=label, text=text, image=image), "relabel", seed, store)
    write_table(run.data.frame(), output)
    changed = run.sql(
        "select count(*) as n from label_history where run_id = $run", run=run.run_id
    )["n"][0]
    if as_json:
        out_json({**_head(run), "changed": int(changed), "output": str(output)})
    else:
        out(_line(run))
        out(plain(f"{changed:,} labels changed, every one in label_history; written to {output}"))


app.command("aggregate", help="One label an item from the answers of several annotators.")(
    aggregate
)


def _judged(file: str, roles: Roles, action: OnFinding, seed: int, store: Path) -> Run:
    """One run of confident learning over the file."""
    stage: Any = find("labels.confident")
    reader = reader_of(file, roles, Beside(missing_labels="quarantine"))
    run = Pipeline(Path(file).name, [reader, stage(on_finding=action)]).run(seed=seed, store=store)
    settle()
    return run


def _flagged(run: Run) -> pl.DataFrame:
    """The issues with the label that each row has and the one it should have."""
    rows = run.finding("labels.issues").flagged
    label = run.data.roles.one("label")
    given = run.data.frame([label], row_id=True).select(
        pl.col(ROW_ID).alias("row_id"), pl.col(label).cast(pl.String).alias("given")
    )
    source, ordinal = pl.col("row_id") // 2**40, pl.col("row_id") % 2**40
    return (
        rows.join(given, on="row_id", how="left", maintain_order="left")
        .with_columns(row=pl.format("{}:{}", source, ordinal))
        .sort("score", descending=True, maintain_order=True)
        .select("row", "row_id", "score", "given", "suggested", "reason")
    )


def _head(run: Run) -> dict[str, Any]:
    noise = run.finding("labels.noise")
    return {
        "run_id": run.run_id,
        "verdict": noise.verdict,
        "noise_rate": noise.measure.to_json(),
        "says": noise.says,
        "rows": len(run.data),
    }


def _line(run: Run) -> str:
    noise = run.finding("labels.noise")
    word = painted(noise.verdict.replace("_", " "), noise.verdict)
    return f"{word}: {plain(noise.says)}; noise rate {figure(noise.measure)}"
