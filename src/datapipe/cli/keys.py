# SPDX-License-Identifier: Apache-2.0
"""`datapipe keys new|list|rotate|revoke|export`: private keys are encrypted, always.

`new --out FILE` writes one file and nothing else; without `--out` the key goes to the ring, a
folder that remembers owners, dates and revocations.
"""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from datapipe.cli.layout import table
from datapipe.cli.options import Json, PassphraseFile
from datapipe.cli.signing import own_public_keys, passphrase, public_keys, ring_folder
from datapipe.cli.terminal import out, out_json
from datapipe.manifest.keyring import KeyRing, RingKey
from datapipe.manifest.keys import new_key

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Ring = Annotated[
    Path | None,
    typer.Option("--ring", metavar="DIR", help="Key ring; else DATAPIPE_KEYS or your own."),
]
KeyId = Annotated[str, typer.Argument(metavar="KEYID", help="Its id, or how it begins.")]


@app.command("new", help="Make a key and write it encrypted, readable by you alone.")
def _new(
    *,
    algorithm: Annotated[
        str, typer.Option(metavar="NAME", help="ed25519, p256, p384, p521, ml-dsa-65 or hybrid.")
    ] = "hybrid",
    to: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A new PEM file, not in the ring.")
    ] = None,
    owner: Annotated[str, typer.Option(metavar="NAME", help="Whose it is, in the ring.")] = "",
    ring: Ring = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    secret = passphrase(passphrase_file, fresh=True)
    if to is not None:
        key = new_key(algorithm, to, secret)
        file = to
    else:
        keys = KeyRing(ring_folder(ring))
        key = keys.new(algorithm, owner or getpass.getuser(), secret, at=datetime.now(UTC))
        file = keys.folder / str(keys.keys[-1].file)
    ids = [k.keyid for k in own_public_keys(key)]
    if as_json:
        out_json({"file": str(file), "algorithm": algorithm, "keyids": ids})
    else:
        out(f"{algorithm} key {', '.join(i[:16] for i in ids)} written to {file}")
        out(f"next: datapipe keys export {file} > {file.stem}.pub")


@app.command("list", help="The keys of the ring, revoked and expired ones too.")
def _list(*, ring: Ring = None, as_json: Json = False) -> None:
    keys = KeyRing(ring_folder(ring))
    now = datetime.now(UTC)
    if as_json:
        out_json({"ring": str(keys.folder), "keys": [_form(k, now) for k in keys.keys]})
        return
    rows = [
        [k.keyid[:16], k.algorithm, k.owner, k.valid_from, k.valid_until, _state(k, now)]
        for k in keys.keys
    ]
    out(table(["key", "algorithm", "owner", "from", "until", "state"], rows))


@app.command("rotate", help="Make a successor; the old key ends after an overlap.")
def _rotate(
    keyid: KeyId,
    *,
    overlap: Annotated[
        int, typer.Option(metavar="DAYS", min=0, help="How long both are believed.")
    ] = 30,
    ring: Ring = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    keys = KeyRing(ring_folder(ring))
    secret = passphrase(passphrase_file, fresh=True)
    fresh = keys.rotate(keyid, secret, at=datetime.now(UTC), overlap=timedelta(days=overlap))
    ids = [k.keyid for k in own_public_keys(fresh)]
    file = keys.folder / str(keys.keys[-1].file)
    if as_json:
        out_json({"file": str(file), "keyids": ids})
    else:
        told = ", ".join(i[:16] for i in ids)
        out(f"new key {told} in {file}; the old one ends in {overlap} days")


@app.command("revoke", help="Stop believing a key: all its signatures are refused.")
def _revoke(
    keyid: KeyId,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")],
    ring: Ring = None,
    as_json: Json = False,
) -> None:
    keys = KeyRing(ring_folder(ring))
    now = datetime.now(UTC)
    keys.revoke(keyid, reason, at=now)
    gone = [k for k in keys.keys if k.revoked_at is not None]
    if as_json:
        out_json({"revoked": [_form(k, now) for k in gone]})
    else:
        out(f"revoked {keyid}: {reason}")


@app.command("export", help="Print the public half, to give away.")
def _export(
    key: Annotated[
        str, typer.Argument(metavar="FILE|KEYID", help="A key file, or one of the ring.")
    ],
    *,
    ring: Ring = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    if Path(key).is_file():
        found = public_keys(Path(key), passphrase_file)
        pem = "".join(k.to_pem() for k in found)
    else:
        pem = KeyRing(ring_folder(ring)).export(key)
    if as_json:
        out_json({"public": pem})
    else:
        out(pem.rstrip("\n"))


def _state(key: RingKey, now: datetime) -> str:
    problem = key.problem(now)
    return "valid" if problem is None else problem.slug.removeprefix("key_").replace("_", " ")


def _form(key: RingKey, now: datetime) -> dict[str, Any]:
    return {
        "keyid": key.keyid,
        "algorithm": key.algorithm,
        "owner": key.owner,
        "valid_from": key.valid_from,
        "valid_until": key.valid_until,
        "revoked_at": key.revoked_at,
        "reason": key.reason,
        "state": _state(key, now),
    }
