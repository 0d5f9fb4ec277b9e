# SPDX-License-Identifier: Apache-2.0
"""`datapipe demo`: the whole job on real digits with planted, disclosed faults, offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from datapipe import __version__
from datapipe.cli._demo_chain import DELTA, as_delivered, cleaned, write_files
from datapipe.cli._demo_truth import Score, scores
from datapipe.cli.options import STORE, Json, Seed, Store
from datapipe.cli.terminal import note, out, out_json, settle
from datapipe.core.estimate import Estimate
from datapipe.core.pipeline import Pipeline
from datapipe.core.run import Run
from datapipe.errors import GateClosed
from datapipe.measure.intervals import paired_difference
from datapipe.report.html import write_report
from datapipe.report.markup import Html, join, table, tag
from datapipe.testing.worlds import World, digits_world

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _demo(
    *,
    undamaged: Annotated[
        bool, typer.Option("--undamaged", help="The same digits without any planted fault.")
    ] = False,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where the report goes.")
    ] = Path("report.html"),
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 7,
) -> None:
    world = digits_world(seed, damaged=not undamaged)
    name = f"demo-{seed}" + ("-undamaged" if undamaged else "")
    files = write_files(world, store / name)
    note("looking at the rows as delivered ...")
    delivered, closed = _gated(as_delivered(files), seed, store)
    note("cleaning, training three ways, exporting ...")
    run, refused = _gated(cleaned(files), seed, store)
    found = [] if undamaged else scores(world, run)
    report = write_report(store, run.run_id, output, extra=_truth(found))
    told = Told(world, delivered, run, closed, refused, found, report)
    settle()
    if as_json:
        out_json(_form(told))
    else:
        for line in _lines(told):
            out(line)
    if refused:
        raise typer.Exit(3)


@dataclass(frozen=True, eq=False)
class Told:
    """Everything the demo has to tell.

    Args:
        world: The digits and the truth about them.
        delivered: The look at the rows as delivered.
        run: The cleaning run.
        closed: Why the gate closed on the rows as delivered; empty when it passed.
        refused: Why the gate closed on the cleaned rows; empty when it passed.
        found: What was found of what was planted.
        report: The report.

    Example:
        >>> Told.__name__
        'Told'
    """

    world: World
    delivered: Run
    run: Run
    closed: str
    refused: str
    found: Sequence[Score]
    report: Path


def _gated(pipeline: Pipeline, seed: int, store: Path) -> tuple[Run, str]:
    """Run a pipeline; a closed gate is an answer here, not an error."""
    try:
        return pipeline.run(seed=seed, store=store), ""
    except GateClosed as closed:
        if closed.run is None:
            raise
        return closed.run, closed.message


def _form(told: Told) -> dict[str, Any]:
    """The promised object of the cleaned run, with the planted truth and the first look added."""
    return {
        **told.run.to_json(),
        "gate": told.refused or "passed",
        "planted": [s.to_json() for s in told.found],
        "as_delivered": {**told.delivered.to_json(), "gate": told.closed or "passed"},
        "report": str(told.report),
    }


def _lines(told: Told) -> list[str]:
    """At most 25 lines; the last says what to do next."""
    run, seed = told.run, told.world.seed
    rows = sum(t.num_rows for t, _ in told.world.sources.values())
    where = "" if run.store == STORE else f" --store {run.store}"
    statements = run.sql("select count(*) as n from attestations")["n"][0]
    size = told.report.stat().st_size // 1024
    lines = [
        f"datapipe {__version__}  demo  seed {seed}  run {run.run_id}  store {run.store}",
        _sources(run, rows),
        _planted(told.found),
        f" gate      as delivered: {_why(told.closed)}",
        *_found(told.found),
        *(_finding(run, kind, words) for kind, words in _TOLD.items()),
        f" gate      cleaned: {_why(told.refused)}; {len(run.data):,} of {rows:,} rows are left",
        *_models(run),
        *_exports(run),
        f" lineage   {len(run.steps)} steps, {statements} statements; datapipe verify {run.store}",
        f" report    {told.report} ({size} kB)",
        f" next      datapipe why {_example_row(run)}{where} · datapipe sql 'from findings'{where}",
    ]
    return [line for line in lines if line]


def _planted(found: Sequence[Score]) -> str:
    planted = ", ".join(f"{s.planted} {s.words}" for s in found)
    return f" planted   {planted}, 120 declared synthetic" if found else ""


def _found(found: Sequence[Score]) -> list[str]:
    if not found:
        return []
    head = f" {'set aside':<25}{'found':>6}   {'precision [95 %]':<24}recall [95 %]"
    return [
        head,
        *(
            f"   {s.words:<23}{s.found:>6}   {_rate(s.precision):<24}{_rate(s.recall)}"
            for s in found
        ),
    ]


_TOLD = {
    "synthetic.declared": "synthetic",
    "synthetic.prevalence": "estimated",
    "labels.noise": "noise left",
}


def _sources(run: Run, rows: int) -> str:
    signed = sum(s.rows for s in run.data.sources if s.trust == "verified")
    unsigned = ", ".join(s.name for s in run.data.sources if s.trust != "verified")
    tail = f", {rows - signed:,} unsigned ({unsigned})" if unsigned else ""
    return f" read      {len(run.data.sources)} sources, {rows:,} rows; {signed:,} verified{tail}"


def _why(closed: str) -> str:
    if not closed:
        return "passed"
    reasons = closed.removeprefix("gate closed: ").split("; ")
    kinds = [r.split(" ", 1)[0] for r in reasons]
    return f"CLOSED by {', '.join(kinds)}"


def _rate(e: Estimate) -> str:
    return "-" if e.n == 0 else f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"


def _finding(run: Run, kind: str, words: str) -> str:
    matches = [f for f in run.findings if f.kind == kind]
    if not matches:
        return ""
    finding = matches[-1]
    if finding.verdict == "not_evaluated":
        return f" {words:<9} not evaluated: {finding.reason}"[:118]
    return f" {words:<9} {_rate(finding.measure)}"


def _models(run: Run) -> list[str]:
    lines = []
    answers = _answers(run)
    for model in (a for a in run.artifacts.values() if a.kind == "model"):
        accuracy = model.measures["accuracy"]
        words = {"before": "before cleaning"}.get(model.name, model.name)
        told = f" train     {words:<16}accuracy {_rate(accuracy)}"
        epsilon = model.facts.get("epsilon")
        if epsilon is not None:
            told += f"   epsilon {float(epsilon):.2f} at delta {DELTA:g}"
        if model.name == "plain" and {"before", "plain"} <= set(answers):
            change = paired_difference(answers["before"], answers["plain"])
            told += f"   change {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
        lines.append(told)
    return lines


def _answers(run: Run) -> Mapping[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Which test rows each model got right, for a paired comparison on the same rows."""
    right: dict[str, np.ndarray[Any, np.dtype[np.bool_]]] = {}
    for artifact in run.artifacts.values():
        if artifact.kind == "table" and artifact.parents:
            frame = pl.read_parquet(artifact.path)
            if "correct" in frame.columns:
                right[artifact.parents[0]] = frame["correct"].to_numpy()
    return right


def _exports(run: Run) -> list[str]:
    lines = []
    for export in (a for a in run.artifacts.values() if a.kind == "export"):
        change = export.measures.get("accuracy_change")
        told = (
            ""
            if change is None
            else f"   accuracy {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
        )
        size = export.path.stat().st_size
        judged = run.finding(f"export.{export.facts['format']}")
        opened = judged.says if judged.verdict == "fail" else "reopened in a clean process"
        lines.append(f" export    {export.name:<16}{size:,} bytes{told}, {opened}")
    return lines


def _example_row(run: Run) -> str:
    found = run.sql(
        "select source_no, ordinal from dropped_rows where run_id = $run and reason like 'poison%'"
        " union all select source_no, ordinal from dropped_rows where run_id = $run limit 1",
        run=run.run_id,
    )
    return f"{found['source_no'][0]}:{found['ordinal'][0]}" if found.height else "1:0"


def _truth(found: Sequence[Score]) -> Html | None:
    if not found:
        return None
    rows = [[s.words, s.planted, s.found, _rate(s.precision), _rate(s.recall)] for s in found]
    head = ["planted fault", "planted", "set aside", "precision [95 %]", "recall [95 %]"]
    return join(
        [tag("h2", "Found, beside what was planted"), table(head, rows, numbers=(1, 2, 3, 4))]
    )
