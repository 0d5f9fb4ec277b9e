# SPDX-License-Identifier: Apache-2.0
"""The file `format`: what a reader has to understand before it may believe a store.

It says no more than what the store holds, so that an older datapipe goes on reading stores in which
nothing new was used, and refuses the others in clear words instead of answering wrongly. The
numbers are two bits apart: no flipped bit makes one of them another.
"""

from __future__ import annotations

import os
from pathlib import Path

from datapipe.errors import TrustError
from datapipe.lineage.durable import sync_folder
from datapipe.lineage.engine import newer
from datapipe.manifest.plain import content

ERASED = "redacted records"
WOVEN = "rows joined or multiplied"
_NUMBERS = {
    frozenset[str](): 1,
    frozenset({ERASED}): 2,
    frozenset({WOVEN}): 4,
    frozenset({ERASED, WOVEN}): 7,
}
_HOLDS = {number: holds for holds, number in _NUMBERS.items()}


def holds(store: Path) -> frozenset[str]:
    r"""What a store holds beyond plain records, told without reading its journal.

    Args:
        store: Its folder.

    Returns:
        `ERASED` and `WOVEN`, as far as its stamp says so; empty where there is no stamp.

    Raises:
        ExecutionError: It holds what this datapipe does not know.

    Example:
        >>> import tempfile
        >>> home = Path(tempfile.mkdtemp())
        >>> stamp(home, WOVEN)
        >>> stamp(home, ERASED)
        >>> sorted(holds(home)), (home / "format").read_text()
        (['redacted records', 'rows joined or multiplied'], 'datapipe store 7\n')
    """
    number = _number(store)
    if number is None:
        return frozenset()
    if number not in _HOLDS:
        raise newer(store, number, known=max(_HOLDS))
    return _HOLDS[number]


def stamp(store: Path, more: str = "") -> None:
    r"""Say that a store is one, and what it is about to hold.

    Args:
        store: Its folder.
        more: `ERASED`, `WOVEN`, or nothing new.

    Raises:
        ExecutionError: It holds what this datapipe does not know.

    Example:
        >>> import tempfile
        >>> home = Path(tempfile.mkdtemp())
        >>> stamp(home)
        >>> (home / "format").read_text()
        'datapipe store 1\n'
    """
    path, before = store / "format", holds(store)
    if path.exists() and (not more or more in before):
        return
    if path.exists() and _number(store) is None:  # unreadable: nobody knows what it said
        before = frozenset({ERASED, WOVEN})
    partial = path.with_name(f".format.{os.getpid()}")
    number = _NUMBERS[before | ({more} if more else set())]
    with partial.open("w") as file:
        file.write(f"datapipe store {number}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(store)


def _number(store: Path) -> int | None:
    """The number in the stamp; None where there is none, or it is not to be read."""
    try:
        words = content(store / "format").decode(errors="replace").split()
    except (OSError, TrustError):
        return None
    stamped = len(words) == 3 and words[:2] == ["datapipe", "store"] and words[2].isdecimal()
    return int(words[2]) or None if stamped else None
