# SPDX-License-Identifier: Apache-2.0
"""`datapipe budget`: what was spent of each data set's privacy, by simple composition."""

from __future__ import annotations

import typer

from datapipe.cli.layout import table
from datapipe.cli.options import STORE, Json, Store, existing_store
from datapipe.cli.terminal import note, out, out_json
from datapipe.lineage.store import Lineage

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _budget(*, as_json: Json = False, store: Store = STORE) -> None:
    spent = Lineage(existing_store(store)).sql("from privacy_spend order by dataset, unit")
    if as_json:
        out_json(spent.to_dicts())
        return
    out(table(spent.columns, spent.rows()))
    note("sums are upper bounds by simple composition; the accountant of a training is tighter")
