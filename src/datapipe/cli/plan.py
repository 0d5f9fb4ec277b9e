# SPDX-License-Identifier: Apache-2.0
"""`datapipe plan FILE.py[:NAME]`: every declaration error at once, or the steps in order."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from datapipe.cli.options import Json
from datapipe.cli.pipeline_file import load_pipeline
from datapipe.cli.terminal import out, out_json
from datapipe.core.pipeline import PlannedStep

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _plan(
    file: Annotated[str, typer.Argument(metavar="FILE.py[:NAME]", help="Holds a Pipeline.")],
    *,
    as_json: Json = False,
) -> None:
    plan = load_pipeline(file).plan()
    if as_json:
        steps = [_step(s) for s in plan.steps]
        out_json({"pipeline": plan.pipeline, "roles": plan.roles.to_json(), "steps": steps})
    else:
        out(str(plan))


def _step(step: PlannedStep) -> dict[str, Any]:
    return {
        "position": step.position,
        "group": step.group,
        "stage": step.stage.name,
        "version": step.stage.version,
        "shape": step.shape,
        "params": step.stage.params(),
    }
