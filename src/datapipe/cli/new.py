# SPDX-License-Identifier: Apache-2.0
"""`datapipe new stage KEY`: a module, a card and a test that pass at once, to be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datapipe.cli.options import Json
from datapipe.cli.terminal import out, out_json, plain
from datapipe.testing.scaffold import new_stage

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def _new() -> None:
    """Keeps `stage` a verb of its own, so that other things can be new one day."""


@app.command("stage", help="A stage of your own: module, card, test; in a checkout the catalogue.")
def _stage(
    key: Annotated[str, typer.Argument(metavar="KEY", help="family.method, in lower case.")],
    *,
    folder: Annotated[
        Path, typer.Option("--in", metavar="DIR", help="A checkout of datapipe, or any folder.")
    ] = Path(),
    as_json: Json = False,
) -> None:
    written = new_stage(key, folder)
    if as_json:
        out_json({"key": key, "files": [str(p) for p in written]})
        return
    for path in written:
        out(plain(str(path)))
    test = next(p for p in written if p.name.startswith("test_"))
    out(plain(f"next: python -m pytest {test}"))
