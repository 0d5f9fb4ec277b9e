# SPDX-License-Identifier: Apache-2.0
"""`datapipe sql QUERY`: ask the lineage store; a table on a terminal, CSV in a pipe.

CSV is made to be opened in spreadsheets, so a text that such a program would run as a formula gets
an apostrophe in front; `--json` gives every value as it is.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from typing import Annotated

import polars as pl
import typer

from datapipe.cli.exits import end_now
from datapipe.cli.layout import table
from datapipe.cli.options import STORE, Json, Store, existing_store
from datapipe.cli.terminal import out, out_json, shown
from datapipe.lineage.store import Lineage
from datapipe.lineage.watch import last_resort

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@app.command()
def _sql(
    context: typer.Context,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="Such as 'from dropped_rows'; '-' reads stdin.")
    ],
    *,
    csv: Annotated[bool, typer.Option("--csv", help="CSV, on a terminal too.")] = False,
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    asked = sys.stdin.read() if query == "-" else query
    ends = last_resort(partial(end_now, as_json=as_json)) if context.obj else nullcontext()
    with ends:
        frame = Lineage(existing_store(store)).sql(asked)
    if as_json:
        out_json(frame.to_dicts())
    elif csv or not sys.stdout.isatty():
        sys.stdout.write(safe_csv(frame))
    else:
        out(table(frame.columns, frame.rows()))


def safe_csv(frame: pl.DataFrame) -> str:
    """A frame as CSV in which no cell is a formula.

    Args:
        frame: Any frame; nested values become JSON.

    Returns:
        The text, with a header line.

    Example:
        >>> safe_csv(pl.DataFrame({"a": ["=1+1", "-2", "fine"]})).splitlines()
        ['a', "'=1+1", '-2', 'fine']
    """
    flat = frame.with_columns(
        pl.Series(name, [shown(cell) for cell in frame[name].to_list()], pl.String)
        for name, kind in frame.schema.items()
        if kind.is_nested() or kind == pl.Binary
    )
    texts = pl.col(pl.String)
    risky = texts.str.contains(_FORMULA) & ~texts.str.contains(_NUMBER)
    guarded = flat.with_columns(pl.when(risky).then("'" + texts).otherwise(texts).name.keep())
    return guarded.rename(lambda n: f"'{n}" if n[:1] in "=+-@\t\r" else n).write_csv()
