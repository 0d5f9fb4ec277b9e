# SPDX-License-Identifier: Apache-2.0
"""`datapipe report [RUN] -o FILE`: what a run found, as one HTML file that loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datapipe.cli.options import STORE, Json, Store, existing_store
from datapipe.cli.terminal import out, out_json, plain
from datapipe.report.html import write_report

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _report(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="Its id or how it begins; else the newest.")
    ] = "",
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write.")
    ] = Path("report.html"),
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    path = write_report(existing_store(store), run, output)
    size = path.stat().st_size
    if as_json:
        out_json({"report": str(path), "bytes": size})
    else:
        out(plain(f"report: {path} ({size / 1000:,.0f} kB)"))
