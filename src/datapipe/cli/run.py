# SPDX-License-Identifier: Apache-2.0
"""`datapipe run FILE.py[:NAME] --seed N`: run the pipeline of a Python file.

Exits 3 when a gate said no; the run is recorded and shown all the same.
"""

from __future__ import annotations

from typing import Annotated

import typer

from datapipe._lazy import upward
from datapipe.cli.findings import show
from datapipe.cli.options import STORE, Json, Store
from datapipe.cli.pipeline_file import load_pipeline
from datapipe.cli.terminal import out_json, settle, strangers_at_work
from datapipe.core.pipeline import Executor
from datapipe.core.run import Run
from datapipe.errors import DeclarationError, GateClosed

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _run(
    file: Annotated[str, typer.Argument(metavar="FILE.py[:NAME]", help="Holds a Pipeline.")],
    *,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed; needed.")] = None,
    as_json: Json = False,
    store: Store = STORE,
    executor: Annotated[
        str, typer.Option("--executor", metavar="local|ray", help="What runs large row stages.")
    ] = "local",
    address: Annotated[
        str, typer.Option("--address", metavar="ADDR", help="Of a Ray cluster; else one here.")
    ] = "",
) -> None:
    chosen = _executor(executor, address)
    pipeline = load_pipeline(file)
    if seed is None:
        pipeline.plan()  # what is wrong with the declaration matters more than a missing seed
        raise DeclarationError(
            "a run needs a seed",
            code="DP-USE-010",
            hint=f"datapipe run {file} --seed 7; the same seed gives the same bytes",
        )
    try:
        with strangers_at_work():
            run = pipeline.run(seed=seed, store=store, executor=chosen)
    except GateClosed as closed:
        stopped = getattr(closed, "run", None)
        if isinstance(stopped, Run):
            _tell(stopped, seed, as_json=as_json)
        raise
    _tell(run, seed, as_json=as_json)


def _executor(name: str, address: str) -> Executor | None:
    """The executor of a name; None for the local one."""
    if name == "ray":
        made: Executor = upward("datapipe.execute.ray", "RayExecutor")(address)
        return made
    if name != "local" or address:
        what = "an address needs --executor ray" if name == "local" else f"no executor is {name!r}"
        raise DeclarationError(what, code="DP-USE-011", hint="use --executor local or ray")
    return None


def _rows_read(run: Run) -> int:
    """Rows that all readers passed on: they come first, and each brings one source."""
    read = run.steps[: max(1, len(run.data.sources))]
    return sum(step.rows_out for step in read) if read else len(run.data)


def _tell(run: Run, seed: int, *, as_json: bool) -> None:
    settle(run)
    if as_json:
        out_json(run.to_json())
        return
    first = _rows_read(run)
    reused = sum(s.reused for s in run.steps)
    store = "" if run.store == STORE else f" --store {run.store}"
    closing = [f"artifact: {a.name} {a.digest[:19]}" for a in run.artifacts.values()][:4]
    closing.append(
        f"next: datapipe report {run.run_id} -o report.html{store}"
        f"  ·  datapipe sql 'from dropped_rows'{store}"
    )
    headline = (
        f"run {run.run_id}  {run.pipeline}  {first:,} rows in, {len(run.data):,} left"
        f"  {len(run.steps)} steps ({reused} reused)  seed {seed}"
    )
    show(run, headline=headline, closing=closing)
