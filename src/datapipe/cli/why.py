# SPDX-License-Identifier: Apache-2.0
"""`datapipe why ROW`: where a row came from, what was thought of it, where it went."""

from __future__ import annotations

from typing import Annotated

import typer

from datapipe.cli.options import STORE, Json, Store, existing_store
from datapipe.cli.terminal import out, out_json, sheet
from datapipe.lineage.store import Lineage

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _why(
    row: Annotated[str, typer.Argument(metavar="ROW", help="A row id, or SOURCE:ORDINAL.")],
    *,
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    answer = Lineage(existing_store(store)).why(row)
    if as_json:
        out_json(answer)
    else:
        out(sheet(answer))
