# SPDX-License-Identifier: Apache-2.0
"""`datapipe labels …`: which labels look wrong, how many, and which rows to look at next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from datapipe.cli.labels_audit import plan, rate
from datapipe.cli.labels_crowd import aggregate, annotators
from datapipe.cli.labels_files import (
    File,
    Image,
    Kind,
    Label,
    Output,
    Probs,
    Text,
    known_format,
    write_table,
)
from datapipe.cli.labels_judging import by_row, head, judged, line
from datapipe.cli.labels_routing import routed
from datapipe.cli.labels_tools import send, take_in
from datapipe.cli.labels_undo import put_back
from datapipe.cli.layout import table
from datapipe.cli.options import STORE, Json, Seed, Store
from datapipe.cli.terminal import out, out_json, plain
from datapipe.core.run import Run
from datapipe.errors import DeclarationError, SchemaMismatch, nearest
from datapipe.measure.triage import rare_plan, relabel_plan

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
app.command("aggregate", help="One label an item from the answers of several annotators.")(
    aggregate
)
app.command("annotators", help="Skill, agreement, spammers and drift of annotators.")(annotators)
app.command("noise-rate", help="How many labels are wrong, with the interval the data allows.")(
    rate
)
app.command("plan-audit", help="The rows that experts should check to know the noise rate.")(plan)
app.command("export", help="Rows as tasks of Label Studio or Argilla.")(send)
app.command("import", help="What annotators said there, one answer a row, for aggregate.")(take_in)

CURVE_POINTS = 50


@app.command("issues", help="Rows whose label looks wrong, the surest first, with a suggestion.")
def _issues(
    file: File,
    *,
    label: Label,
    probs: Probs = "",
    text: Text = "",
    image: Image = "",
    kind: Kind = "auto",
    classifier: Annotated[
        str,
        typer.Option(metavar="NAME", help="Without --probs: kernel, linear, boosted or auto."),
    ] = "auto",
    every: Annotated[bool, typer.Option("--all", help="Every row, with `flagged`.")] = False,
    most: Annotated[int, typer.Option(metavar="N", min=0, help="Lines shown on screen.")] = 20,
    output: Output = None,
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 0,
) -> None:
    known_format(output)
    run = judged(
        file, label, probs, text, image, seed=seed, store=store, kind=kind, classifier=classifier
    )
    found = _listed(run, every=every)
    if output is not None:
        write_table(found, output, for_people=True)
    if as_json:
        out_json({**head(run), "issues": found.to_dicts()})
        return
    out(line(run))
    if found.height:
        shown = found.head(most).select("row", "score", "given", "suggested")
        out(table(shown.columns, shown.rows()))
    if found.height > most:
        out(f"and {found.height - most:,} more; -o FILE writes all, --json prints all")


@app.command("relabel", help="Which rows to have labelled next for a budget, and where to stop.")
def _relabel(
    file: File,
    *,
    label: Label,
    probs: Probs = "",
    text: Text = "",
    image: Image = "",
    budget: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="What may be spent; none: all.")
    ] = None,
    cost: Annotated[str, typer.Option(metavar="COL", help="Cost of each row; 1 without.")] = "",
    skill: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="How often who checks is right.")
    ] = 1.0,
    annotators: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who may check: annotator, skill, cost; gives each row."),
    ] = None,
    least: Annotated[
        float, typer.Option(metavar="N", help="Stop where a unit of cost removes fewer errors.")
    ] = 0.05,
    rare: Annotated[
        str, typer.Option(metavar="CLASS", help="Look for rows of a rare class instead.")
    ] = "",
    kind: Kind = "auto",
    apply: Annotated[
        bool, typer.Option("--apply", help="Write a copy with the suggested labels instead.")
    ] = False,
    undo: Annotated[
        str, typer.Option(metavar="RUN", help="Write a copy as it was before that run's --apply.")
    ] = "",
    row: Annotated[
        list[str] | None, typer.Option(metavar="ROW", help="With --undo: this row only; repeat.")
    ] = None,
    output: Output = None,
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 0,
) -> None:
    known_format(output)
    if undo:
        put_back(file, label, undo, row or [], output, as_json=as_json, store=store, seed=seed)
        return
    if apply:
        if output is None:
            raise DeclarationError(
                "no output is named", code="DP-USE-040", hint="-o cleaned.parquet"
            )
        run = judged(
            file, label, probs, text, image, seed=seed, store=store, action="relabel", kind=kind
        )
        write_table(run.data.frame(), output)
        changed = run.sql(
            "select count(*) as n from label_history where run_id = $run", run=run.run_id
        )["n"][0]
        if as_json:
            out_json({**head(run), "changed": int(changed), "output": str(output)})
        else:
            out(line(run))
            out(plain(f"{changed:,} labels changed, every one in label_history; see {output}"))
        return
    run = judged(file, label, probs, text, image, seed=seed, store=store, kind=kind)
    rows = by_row(run)
    if rare:
        chosen, told = _rare(rows, rare, budget, seed)
    elif annotators is not None:
        chosen, told = routed(rows, annotators, budget)
    else:
        chosen, told = _worth(run, rows, budget, cost, skill=skill, least=least)
    if output is not None:
        write_table(chosen, output)
    if as_json:
        out_json({**head(run), **told, "next": chosen.to_dicts()})
        return
    out(line(run))
    who = ("annotator",) if "annotator" in chosen.columns else ()
    shown = chosen.head(20).select("row_id", "score", "given", "suggested", *who)
    out(table(shown.columns, shown.rows()))
    out(plain("; ".join(f"{k.replace('_', ' ')} {v}" for k, v in told.items() if k != "curve")))


def _worth(
    run: Run, rows: pl.DataFrame, budget: float | None, cost: str, *, skill: float, least: float
) -> tuple[pl.DataFrame, dict[str, object]]:
    """The rows that remove the most errors a cost, with the marginal curve."""
    prices = None
    if cost:
        if cost not in run.data.names:
            raise SchemaMismatch(f"there is no column {cost!r}", hint=nearest(cost, run.data.names))
        held = run.data.frame([cost], row_id=True).rename({"_row_id": "row_id"})
        joined = rows.join(held, on="row_id", how="left", maintain_order="left")
        prices = joined[cost].cast(pl.Float64, strict=False).fill_null(0.0).to_numpy()
    whole = float(rows.height if prices is None else prices.sum())
    scores = rows["score"].to_numpy()
    made = relabel_plan(
        scores, budget=whole if budget is None else budget, cost=prices, skill=skill, least=least
    )
    chosen = rows[made.rows.tolist()].with_columns(
        expected_removed=pl.Series(made.removed), spent=pl.Series(made.spent)
    )
    chosen = chosen.with_columns(worth_it=pl.int_range(pl.len()) < made.stop)
    if budget is None:  # without a budget the stopping rule sets it
        chosen = chosen.head(made.stop)
    steps = np.unique(np.linspace(0, max(0, made.rows.size - 1), CURVE_POINTS).astype(int))
    curve = [
        {"spent": float(made.spent[i]), "expected_removed": float(made.removed[i])}
        for i in steps
        if made.rows.size
    ]
    return chosen, {
        "budget": budget,
        "stop_after": made.stop,
        "expected_errors": round(made.total, 3),
        "expected_removed": round(float(made.removed[-1]), 3) if made.rows.size else 0.0,
        "curve": curve,
    }


def _rare(
    rows: pl.DataFrame, rare: str, budget: float | None, seed: int
) -> tuple[pl.DataFrame, dict[str, object]]:
    """A sample that finds rows of a rare class and tells how rare it is."""
    given, suggested = rows["given"] == rare, (rows["suggested"] == rare).fill_null(value=False)
    scores = rows["score"].to_numpy()
    chance = np.where(given, 1 - scores, np.where(suggested, scores, 0.0))
    m = int(min(budget or max(2, rows.height // 50), rows.height))
    made = rare_plan(chance, max(2, m), np.random.default_rng(seed))
    chosen = rows[made.rows.tolist()].with_columns(drawn_with=pl.Series(made.chance))
    expected = float(chance[made.rows].sum())
    return chosen, {"budget": m, "rare_class": rare, "expected_found": round(expected, 3)}


def _listed(run: Run, *, every: bool) -> pl.DataFrame:
    """The issues, or all rows, with the label that each has and the one it should have."""
    if run.finding("labels.issues").rows is None:
        empty = {"row": pl.String, "row_id": pl.UInt64, "score": pl.Float64, "given": pl.String}
        return pl.DataFrame(schema={**empty, "suggested": pl.String, "reason": pl.String})
    rows = by_row(run)
    rows = rows if every else rows.filter("flagged")
    source = pl.col("row_id") // 2**40
    return (
        rows.with_columns(
            row=pl.format("{}:{}", source, "ordinal"), expected_loss=pl.col("score").clip(0, 1)
        )
        .sort("score", descending=True, maintain_order=True)
        .select(
            "row", "row_id", "ordinal", "score", "given", "suggested", "reason", "expected_loss",
            *(("flagged",) if every else ()),
        )
    )  # fmt: skip
