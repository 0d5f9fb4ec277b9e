# SPDX-License-Identifier: Apache-2.0
"""`datapipe sign PATH --key FILE`: leave an OpenSSF bundle and our attestation beside it."""

from __future__ import annotations

from typing import Annotated

import typer

from datapipe.cli.options import Json, KeyFile, PassphraseFile, existing
from datapipe.cli.signing import signer
from datapipe.cli.terminal import out, out_json, plain
from datapipe.manifest.bundle import cosign_path, sign_path

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _sign(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file or a folder.")],
    *,
    key: KeyFile = None,
    passphrase_file: PassphraseFile = None,
    add: Annotated[
        bool, typer.Option("--add", help="Sign what somebody else attested, beside them.")
    ] = False,
    as_json: Json = False,
) -> None:
    sign = cosign_path if add else sign_path
    signed = sign(existing(path), signer(key, passphrase_file))
    beside = [f for f in (signed.openssf, signed.attestation) if f is not None]
    if as_json:
        out_json(
            {
                "path": str(signed.path),
                "files": signed.files,
                "tree": signed.tree,
                "attestation": str(signed.attestation),
                "openssf": None if signed.openssf is None else str(signed.openssf),
                "says": signed.says,
            }
        )
        return
    out(plain(f"signed {signed.path}: {signed.files:,} files, tree {signed.tree[:16]}"))
    for file in beside:
        out(plain(f"  {file}"))
    if signed.says:
        out(plain(signed.says))
