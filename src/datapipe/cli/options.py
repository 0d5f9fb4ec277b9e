# SPDX-License-Identifier: Apache-2.0
"""Options that several verbs share, and the checks of paths that come before anything is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from datapipe.core.remote import SCHEMES, bare, fetched, permit
from datapipe.errors import DeclarationError, nearest

STORE = Path(".datapipe")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed; same seed, same bytes.")]
KeyFile = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Encrypted private key (PEM).")
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", metavar="FILE", help="Its passphrase, else DATAPIPE_KEY_PASSPHRASE."
    ),
]


def _store_folder(given: str | Path) -> Path:
    """The folder `--store` names; an empty name would be the folder one stands in."""
    if not str(given) or "://" in str(given):
        raise DeclarationError(
            f"--store {str(given)!r} names no folder of this machine",
            code="DP-USE-095",
            hint="name a folder such as .datapipe; it is made when it is not there",
        )
    return Path(given)


Store = Annotated[
    Path,
    typer.Option("--store", metavar="DIR", parser=_store_folder, help="Folder of the store."),
]
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")
_NETWORK_SHARE = re.compile(r"^(\\\\|//)[^/\\]")


def refuse_uri(path: str) -> str:
    """Refuse anything but a path of this machine, before anybody could follow it.

    What is audited may lie in a store of objects where `DATAPIPE_REMOTE` allows it: see `local`.

    Args:
        path: What the user gave.

    Returns:
        The same path.

    Raises:
        DeclarationError: It is a URL or a network share.

    Example:
        >>> refuse_uri("data/reviews.csv")
        'data/reviews.csv'
    """
    if _SCHEME.match(path) or _NETWORK_SHARE.match(path):
        scheme = path.partition(":")[0] if ":" in path else "network share"
        raise DeclarationError(
            f"{bare(path)}: {scheme!r} addresses are not read; a path of this machine was expected",
            code="DP-USE-003",
            hint="download the file first: datapipe opens no network connection",
        )
    return path


def remote(path: str) -> bool:
    """Whether what the user gave is an address that may be opened, as `DATAPIPE_REMOTE` says.

    Args:
        path: What the user gave.

    Returns:
        False for a path of this machine.

    Raises:
        DeclarationError: It is an address in a store of objects whose scheme is not allowed.

    Example:
        >>> remote("data/reviews.csv")
        False
    """
    if path.partition("://")[0] not in SCHEMES or "://" not in path:
        return False
    permit(path)
    return True


def local(path: str) -> Path:
    """A file of this machine, or the copy here of an object that may be fetched.

    Args:
        path: What the user gave.

    Returns:
        The path.

    Raises:
        DeclarationError: There is nothing, several objects fit, or it may not be opened.
        ExecutionError: The store of objects cannot be reached.

    Example:
        >>> local(__file__).name
        'options.py'
    """
    if not remote(path):
        return existing(path)
    copies = fetched(path)
    if len(copies) > 1:
        raise DeclarationError(
            f"{bare(path)} means {len(copies)} objects; one was expected",
            code="DP-USE-097",
            hint="name one object",
        )
    return copies[0]


def existing(path: str | Path) -> Path:
    """A path that exists on this machine.

    Args:
        path: What the user gave.

    Returns:
        The path.

    Raises:
        DeclarationError: It is a URL, or there is nothing there.

    Example:
        >>> existing(__file__).name
        'options.py'
    """
    if not str(path).strip():
        raise DeclarationError(
            "the path is empty",
            code="DP-USE-004",
            hint="name a file, or look whether the variable behind it is set",
        )
    found = Path(refuse_uri(str(path)))
    if found.is_symlink() and not found.exists():
        raise DeclarationError(
            f"{path} is a link that leads nowhere",
            code="DP-USE-004",
            hint=f"it points to {found.readlink()}",
        )
    if not found.exists():
        folder = found.parent
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        near = nearest(found.name, names) if names else f"the folder {folder} does not exist"
        raise DeclarationError(
            f"{path}: no such file or folder", code="DP-USE-004", hint=_only_close(near, folder)
        )
    return found


def _only_close(near: str, folder: Path) -> str:
    """Close names help; a listing of somebody's whole folder does not."""
    return near if not near.startswith("known:") else f"check the name; the folder is {folder}"


def existing_store(store: Path) -> Path:
    """A folder that holds a store, for verbs that only ask questions.

    Args:
        store: What `--store` named.

    Returns:
        The folder.

    Raises:
        DeclarationError: There is no store.

    Example:
        >>> existing_store(Path("nowhere"))
        Traceback (most recent call last):
        ...
        datapipe.errors.DeclarationError: there is no store in nowhere [DP-USE-005]
        <BLANKLINE>
        hint: name one with --store DIR, or make one with datapipe audit or datapipe run
    """
    if not (store / "journal").is_dir():
        raise DeclarationError(
            f"there is no store in {store}",
            code="DP-USE-005",
            hint="name one with --store DIR, or make one with datapipe audit or datapipe run",
        )
    return store
