# SPDX-License-Identifier: Apache-2.0
"""`datapipe plan FILE.py[:NAME]`: every declaration error at once, or the steps in order.

With `--seed N` it also says which steps a run would take from the store, and why not the others.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from datapipe.cli.options import STORE, Json, Store
from datapipe.cli.pipeline_file import load_pipeline
from datapipe.cli.terminal import out, out_json, plain
from datapipe.core.pipeline import PlannedStep
from datapipe.execute.preview import Preview, preview

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _plan(
    file: Annotated[str, typer.Argument(metavar="FILE.py[:NAME]", help="Holds a Pipeline.")],
    *,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="Show what a run with this seed would reuse."),
    ] = None,
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    plan = load_pipeline(file).plan()
    looks = {} if seed is None else {p.position: p for p in preview(plan, seed=seed, store=store)}
    if as_json:
        steps = [_step(s) | _look(looks.get(s.position)) for s in plan.steps]
        out_json({"pipeline": plan.pipeline, "roles": plan.roles.to_json(), "steps": steps})
        return
    out(str(plan))
    for step in plan.steps:
        if look := looks.get(step.position):
            word = "reused" if look.reused else "runs"
            out(plain(f"  {word:<6}  {step.stage.name}: {look.why}"))


def _look(look: Preview | None) -> dict[str, Any]:
    return {} if look is None else {"reused": look.reused, "why": look.why}


def _step(step: PlannedStep) -> dict[str, Any]:
    return {
        "position": step.position,
        "group": step.group,
        "stage": step.stage.name,
        "version": step.stage.version,
        "shape": step.shape,
        "params": step.stage.params(),
    }
