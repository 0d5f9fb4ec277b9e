# SPDX-License-Identifier: Apache-2.0
"""`datapipe labels aggregate`: one label an item from the answers of several annotators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from datapipe.cli.audit_plan import Beside, reader_of
from datapipe.cli.labels_files import File, Output, flat, known_format, write_table
from datapipe.cli.labels_judging import set_aside
from datapipe.cli.layout import table
from datapipe.cli.options import STORE, Json, Seed, Store
from datapipe.cli.terminal import out, out_json, plain, settle
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import Roles
from datapipe.core.run import Run
from datapipe.errors import DeclarationError, nearest
from datapipe.measure.crowd_choice import METHODS
from datapipe.stages import find

SCALES = ("nominal", "ordinal", "interval")
Item = Annotated[str, typer.Option("--item", "--id", metavar="COL", help="The item answered.")]
Who = Annotated[str, typer.Option(metavar="COL", help="Who answered.")]
Answer = Annotated[str, typer.Option("--answer", "--label", metavar="COL", help="The answers.")]


def aggregate(
    file: File,
    *,
    item: Item,
    annotator: Who,
    answer: Answer,
    method: Annotated[
        str, typer.Option(metavar="NAME", help=f"auto, {', '.join(METHODS)}.")
    ] = "auto",
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="What an answer is: class, value or pair.")
    ] = "class",
    versus: Annotated[str, typer.Option(metavar="COL", help="For pairs: the second item.")] = "",
    gold: Annotated[str, typer.Option(metavar="COL", help="Known labels of gold questions.")] = "",
    output: Output = None,
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 0,
) -> None:
    """Join the answers of a file and print, or write, one line an item.

    Args:
        file: The answers, one a row.
        item: Column of the item answered.
        annotator: Column of who answered.
        answer: Column of the answer.
        method: How answers that are classes are joined.
        kind: `class`, `value` or `pair`.
        versus: Column of the second item of a pair.
        gold: Column of known labels.
        output: Where the items are written.
        as_json: Whether one JSON object is printed.
        store: Folder of the store.
        seed: Deals the folds of `auto`.

    Raises:
        DeclarationError: There is no such method.

    Example:
        >>> aggregate.__name__
        'aggregate'
    """
    name = method.replace("-", "_")
    if name not in ("auto", *METHODS):
        raise DeclarationError(
            f"there is no method {method!r}",
            code="DP-USE-042",
            hint=nearest(name, ["auto", *METHODS]),
        )
    known_format(output)
    stage: Any = find("labels.aggregate")
    kind = "pair" if versus else kind
    step = stage(method=name, kind=kind, versus=versus, gold=gold)
    roles = Roles.of(label=answer, id=item, annotator=annotator)
    beside = Beside(missing_labels="quarantine")
    reader = _lenient(reader_of(file, roles, beside))
    run = Pipeline(Path(file).name, [reader, step]).run(seed=seed, store=store)
    settle(run)
    finding = next(f for f in run.findings if f.kind == "labels.aggregate")
    items, people = table_of(run, "labels"), table_of(run, "annotators")
    if output is not None:
        write_table(items, output)
    if as_json:
        out_json(
            {
                **run.to_json(),
                "method": name,
                "weights": finding.details.get("weights", {}),
                "classes": _classes(run),
                "items": items.to_dicts(),
                "annotators": people.to_dicts(),
            }
        )
        return
    out(plain(f"{finding.verdict.replace('_', ' ')}: {finding.reason}{set_aside(run)}"))
    unsure = flat(items).sort("posterior" if "posterior" in items.columns else "label").head(10)
    out(table(unsure.columns, unsure.rows()))
    which = "the ten least sure" if "posterior" in items.columns else "the first ten"
    out(f"{items.height:,} items, {which} above; -o FILE writes all")


def _lenient(reader: Any) -> Any:
    """The reader, though all answers may be one class: a crowd may agree."""
    return replace(reader, fewest_classes=1)


def table_of(run: Run, name: str) -> pl.DataFrame:
    """The table of a run whose name ends in a word.

    Args:
        run: The run.
        name: `labels` or `annotators`.

    Returns:
        The table; no rows where the run made none.

    Example:
        >>> table_of.__name__
        'table_of'
    """
    for artifact in run.artifacts.values():
        if artifact.kind == "table" and artifact.name.endswith(f".{name}"):
            return pl.read_parquet(artifact.path)
    first = "item" if name == "labels" else "annotator"
    return pl.DataFrame(schema={first: pl.String, "label": pl.String, "posterior": pl.Float64})


def _classes(run: Run) -> list[str]:
    for artifact in run.artifacts.values():
        if artifact.name.endswith(".labels"):
            return list(artifact.facts.get("classes", []))
    return []


def annotators(
    file: File,
    *,
    item: Item,
    annotator: Who,
    answer: Answer,
    time: Annotated[str, typer.Option(metavar="COL", help="When each answer was given.")] = "",
    gold: Annotated[str, typer.Option(metavar="COL", help="Known labels of gold questions.")] = "",
    scale: Annotated[
        str, typer.Option(metavar="NAME", help="Scale of alpha: nominal, ordinal, interval.")
    ] = "nominal",
    seconds: Annotated[
        str, typer.Option(metavar="COL", help="Time that each answer took, in seconds.")
    ] = "",
    output: Output = None,
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 0,
) -> None:
    """Tell of every annotator: skill, what the answers tell, repeats, drift; and the agreement.

    Args:
        file: The answers, one a row.
        item: Column of the item answered.
        annotator: Column of who answered.
        answer: Column of the answer.
        time: Column of when; without it the order of the rows counts.
        gold: Column of known labels.
        scale: Scale of Krippendorff's alpha.
        seconds: Column of the time that each answer took.
        output: Where the annotators are written.
        as_json: Whether one JSON object is printed.
        store: Folder of the store.
        seed: Of resamples.

    Raises:
        DeclarationError: There is no such scale.

    Example:
        >>> annotators.__name__
        'annotators'
    """
    if scale not in SCALES:
        raise DeclarationError(
            f"there is no scale {scale!r}", code="DP-USE-248", hint=nearest(scale, SCALES)
        )
    known_format(output)
    stage: Any = find("labels.annotators")
    roles = Roles.of(label=answer, id=item, annotator=annotator, time=time)
    reader = _lenient(reader_of(file, roles, Beside(missing_labels="quarantine")))
    run = Pipeline(Path(file).name, [reader, stage(gold=gold, scale=scale, seconds=seconds)]).run(
        seed=seed, store=store
    )
    settle(run)
    people = table_of(run, "annotators")
    if output is not None:
        write_table(people, output)
    findings = [f for f in run.findings if f.family == "labels"]
    if as_json:
        out_json({**run.to_json(), "annotators": people.to_dicts()})
        return
    for finding in findings:
        out(plain(f"{finding.verdict.replace('_', ' ')}: {finding.says}"))
    shown = flat(people).head(20)
    out(table(shown.columns, shown.rows()))
