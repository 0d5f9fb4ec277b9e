# SPDX-License-Identifier: Apache-2.0
"""Writing so that it is there after the machine comes back."""

from __future__ import annotations

import os
from pathlib import Path


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write every byte, however few the system takes at a time.

    Args:
        descriptor: An open file.
        data: The bytes.
        offset: Where they go.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     write_all(file.fileno(), b"abc", 0)
        ...     file.read()
        b'abc'
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def sync_folder(folder: Path) -> None:
    """Make new and renamed names in a folder durable.

    Args:
        folder: The folder.

    Example:
        >>> import tempfile
        >>> sync_folder(Path(tempfile.mkdtemp()))
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
