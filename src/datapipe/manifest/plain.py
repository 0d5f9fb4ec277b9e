# SPDX-License-Identifier: Apache-2.0
"""Files and nothing else: whoever opens a pipe waits for ever, and a device may have no end.

A name in a store, or beside a signed file, is one that somebody else may have put there. So it is
opened without waiting, and what was opened is looked at before a byte is read or written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from datapipe.errors import TrustError
from datapipe.manifest.checks import Reason

_HANDED = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""Names of what whoever started this program gave it open, such as a shell's `<(command)`."""
_KINDS = {
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFDIR: "folder",
}


def opened(path: str | Path, flags: int = os.O_RDONLY) -> int:
    """Open a file, links followed, and refuse what is none.

    A pipe that was handed to this program is read as it always was: somebody writes to it.

    Args:
        path: The file.
        flags: How, as `os.open` takes it; a file that is made may be read by everybody.

    Returns:
        A descriptor, which the caller closes; children do not inherit it.

    Raises:
        OSError: It cannot be opened.
        TrustError: It is a pipe, a socket, a device or a folder.

    Example:
        >>> os.close(opened(__file__))
        >>> opened("/dev/null")
        Traceback (most recent call last):
        ...
        datapipe.errors.TrustError: /dev/null is a device, not a file ...
    """
    if str(path).startswith(_HANDED):
        return os.open(path, flags | os.O_CLOEXEC)
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError:
        require(path)  # a socket cannot be opened, nor a pipe that nobody reads
        raise
    try:
        _require(os.fstat(descriptor).st_mode, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def reading(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for reading, and refuse what is none.

    Args:
        path: The file.

    Yields:
        The open file.

    Raises:
        OSError: It cannot be opened.
        TrustError: It is no file.

    Example:
        >>> with reading(__file__) as file:
        ...     file.read(6)
        b'# SPDX'
    """
    with open(opened(path), "rb") as file:
        yield file


def content(path: str | Path) -> bytes:
    """All bytes of a file.

    Args:
        path: The file.

    Returns:
        The bytes.

    Raises:
        OSError: It cannot be read.
        TrustError: It is no file.

    Example:
        >>> content(__file__)[:6]
        b'# SPDX'
    """
    with reading(path) as file:
        return file.read()


def require(path: str | Path) -> None:
    """Look at what a name stands for before an engine opens it that would wait.

    Args:
        path: A name; nothing need be there.

    Raises:
        TrustError: It is no file.

    Example:
        >>> require("nowhere")
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a name may be text
    except OSError:
        return
    _require(mode, path)


def _require(mode: int, path: str | Path) -> None:
    if not stat.S_ISREG(mode):
        raise TrustError(
            f"{path} is a {_KINDS.get(stat.S_IFMT(mode), 'special file')}, not a file",
            code=Reason.SPECIAL_FILE.value,
            hint="nothing here makes such a thing: move it away, and ask where it came from",
            path=str(path),
        )
