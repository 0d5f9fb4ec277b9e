# SPDX-License-Identifier: Apache-2.0
"""Signed checkpoints of the journal: files of their own, which tell when a store was cut."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from datapipe.errors import DeclarationError
from datapipe.lineage.durable import sync_folder
from datapipe.lineage.locks import failed


def keep(folder: Path, size: int, note: str) -> None:
    """Write a signed note twice: under the size it is about, and as the newest.

    Args:
        folder: Where the notes of a store are; made when it is not there.
        size: How many records it covers.
        note: Its text.

    Raises:
        ExecutionError: The disk is full or failed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> keep(folder, 3, "a note")
        >>> sorted(path.name for path in folder.iterdir())
        ['3.note', 'checkpoint']
    """
    try:
        folder.mkdir(exist_ok=True)
        for name in (f"{size}.note", "checkpoint"):
            partial = folder / f".{name}.{os.getpid()}"
            with partial.open("wb") as file:
                file.write(note.encode())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(folder / name)
        sync_folder(folder)
    except OSError as error:
        raise failed(error, f"a checkpoint could not be written to {folder}") from error


def hexadecimal(root: bytes | str) -> str:
    r"""A Merkle root as it is recorded.

    Args:
        root: 32 bytes, or hexadecimal or base64 text.

    Returns:
        Hexadecimal digits.

    Raises:
        DeclarationError: It is neither.

    Example:
        >>> hexadecimal(b"\x01\x02"), hexadecimal("AQI=")
        ('0102', '0102')
    """
    if isinstance(root, bytes):
        return root.hex()
    try:
        return bytes.fromhex(root).hex()
    except ValueError:
        try:
            return base64.b64decode(root, validate=True).hex()
        except binascii.Error as error:
            raise DeclarationError(
                "a Merkle root is 32 bytes, or hexadecimal or base64 text",
                code="DP-DECL-053",
                hint="give what Lineage.root() gave",
            ) from error
