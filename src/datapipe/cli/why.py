# SPDX-License-Identifier: Apache-2.0
"""`datapipe why ROW`: where a row came from, what was thought of it, where it went.

With `--in FILE --proof OUT` it proves instead that the row stands in a published table: the proof
goes to somebody who has neither table nor store, and `datapipe verify OUT` checks it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datapipe.cli.layout import sheet
from datapipe.cli.options import STORE, Json, Store, existing, existing_store
from datapipe.cli.terminal import out, out_json, plain
from datapipe.errors import DeclarationError
from datapipe.lineage.rows import row_number
from datapipe.lineage.store import Lineage
from datapipe.manifest.bundle import signature_paths
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.rows import ROW_PROOF_SUFFIX, prove_row

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _why(
    row: Annotated[str, typer.Argument(metavar="ROW", help="A row id, or SOURCE:ORDINAL.")],
    *,
    table: Annotated[
        Path | None, typer.Option("--in", metavar="FILE", help="A published table (Parquet).")
    ] = None,
    proof: Annotated[
        Path | None,
        typer.Option("--proof", metavar="OUT", help="Write a proof that the row stands in it."),
    ] = None,
    as_json: Json = False,
    store: Store = STORE,
) -> None:
    if (table is None) != (proof is None):
        raise DeclarationError(
            "--in and --proof belong together",
            code="DP-USE-052",
            hint="--in names the published table, --proof the file that is written",
        )
    if table is not None and proof is not None:
        _prove(row, table, proof, as_json=as_json)
        return
    answer = Lineage(existing_store(store)).why(row)
    if as_json:
        out_json(answer)
    else:
        out(sheet(answer))


def _prove(row: str, table: Path, target: Path, *, as_json: bool) -> None:
    if not target.name.endswith(ROW_PROOF_SUFFIX):
        target = target.with_name(target.name + ROW_PROOF_SUFFIX)
    row_id, _, _ = row_number(row)
    attestation = existing(signature_paths(existing(table))[1])
    made = prove_row(table, row_id, Envelope.load(attestation))
    target.write_bytes(made.to_bytes())
    if as_json:
        out_json({"proof": str(target), "index": made.index, "size": made.size, "row": made.values})
    else:
        out(plain(f"row {made.index:,} of {made.size:,} proved in {target}"))
