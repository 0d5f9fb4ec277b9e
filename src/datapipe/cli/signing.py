# SPDX-License-Identifier: Apache-2.0
"""Keys named on a command line: where they lie, and how their passphrase is found."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import typer

from datapipe.cli.options import existing
from datapipe.errors import DeclarationError
from datapipe.manifest.keys import find_passphrase, load_key, load_public_keys
from datapipe.manifest.plain import reading
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.signers import AnySigner, HybridKey, PrivateKey

KEY_VARIABLE = "DATAPIPE_KEY"
RING_VARIABLE = "DATAPIPE_KEYS"


def ring_folder(named: Path | None) -> Path:
    """The folder of the key ring.

    Args:
        named: What `--ring` named, or None.

    Returns:
        That folder, else `DATAPIPE_KEYS`, else one in the user's configuration.

    Example:
        >>> ring_folder(Path("keys"))
        PosixPath('keys')
    """
    if named is not None:
        return named
    if os.environ.get(RING_VARIABLE):
        return Path(os.environ[RING_VARIABLE])
    return Path(typer.get_app_dir("datapipe", force_posix=False)) / "keys"


def passphrase(file: Path | None, *, fresh: bool = False) -> bytes:
    """The passphrase of a private key: from a file, the environment or a prompt on a terminal.

    Args:
        file: What `--passphrase-file` named, or None.
        fresh: Whether it is for a new key, so that a prompt asks twice.

    Returns:
        The passphrase.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "passphrase"
        >>> _ = file.write_text("correct horse")
        >>> passphrase(file)
        b'correct horse'
    """

    def ask() -> str:
        told = typer.prompt("passphrase", hide_input=True, confirmation_prompt=fresh, err=True)
        return str(told)

    return find_passphrase(file=file, prompt=ask if sys.stdin.isatty() else None)


def signer(key: Path | None, passphrase_file: Path | None) -> AnySigner:
    """The key that signs.

    Args:
        key: What `--key` named; None for the one that `DATAPIPE_KEY` names.
        passphrase_file: Where its passphrase is, or None.

    Returns:
        The private key.

    Raises:
        DeclarationError: No key is named.

    Example:
        >>> import tempfile
        >>> from datapipe.manifest.keys import new_key
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "p").write_text("correct horse")
        >>> made = new_key("p256", folder / "k.pem", b"correct horse", rounds=1000)
        >>> signer(folder / "k.pem", folder / "p").keyid == made.keyid
        True
    """
    named = str(key) if key is not None else os.environ.get(KEY_VARIABLE, "")
    if not named:
        raise DeclarationError(
            "no key is named",
            code="DP-USE-020",
            hint=f"datapipe keys new --out key.pem, then --key key.pem or {KEY_VARIABLE}=key.pem",
        )
    return load_key(existing(named), passphrase(passphrase_file))


def public_keys(file: Path, passphrase_file: Path | None) -> tuple[PublicKey, ...]:
    """The public keys of a PEM file, which may hold the private ones too.

    Args:
        file: What `keys export` printed, or an encrypted private key.
        passphrase_file: Where the passphrase of a private key is, or None.

    Returns:
        One key, three of a hybrid.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "key.pub"
        >>> _ = file.write_text(PrivateKey.new("p256").public_key.to_pem())
        >>> public_keys(file, None)[0].algorithm
        'p256'
    """
    with reading(existing(file)) as opened:
        private = b"PRIVATE KEY-----" in opened.read(65536)
    if not private:
        return load_public_keys(file)
    return own_public_keys(load_key(file, passphrase(passphrase_file)))


def own_public_keys(key: AnySigner) -> tuple[PublicKey, ...]:
    """The public half of a private key, all parts' of a hybrid.

    Args:
        key: The private key.

    Returns:
        Public keys; none for a signer that keeps its key elsewhere.

    Example:
        >>> len(own_public_keys(HybridKey.new()))
        3
    """
    return key.public_keys if isinstance(key, (PrivateKey, HybridKey)) else ()


def believed(
    files: Iterable[Path], passphrase_file: Path | None, ring: Path | None
) -> tuple[PublicKey, ...]:
    """The keys to believe: those named, else those of the ring that are valid now.

    Args:
        files: What `--key` named.
        passphrase_file: Where the passphrase of a private key is, or None.
        ring: What `--ring` named, or None.

    Returns:
        Public keys; empty believes nobody.

    Example:
        >>> believed([], None, Path("no-such-folder"))
        ()
    """
    from datapipe.manifest.keyring import KeyRing  # noqa: PLC0415  # who signs needs no ring

    named = [k for file in files for k in public_keys(file, passphrase_file)]
    return tuple(named) if named else KeyRing(ring_folder(ring)).believed(datetime.now(UTC))
