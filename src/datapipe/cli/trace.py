# SPDX-License-Identifier: Apache-2.0
"""`datapipe trace DIGEST`: the way back from a data set or model to its sources."""

from __future__ import annotations

from typing import Annotated

import typer

from datapipe.cli.layout import sheet
from datapipe.cli.options import STORE, Json, Store, existing_store
from datapipe.cli.terminal import out, out_json
from datapipe.lineage.store import Lineage

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _trace(
    digest: Annotated[
        str, typer.Argument(metavar="DIGEST", help="Of a data set, model or export; may be cut.")
    ],
    *,
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    answer = Lineage(existing_store(store)).trace(digest)
    if as_json:
        out_json(answer)
    else:
        out(sheet(answer))
