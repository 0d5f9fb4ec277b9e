# SPDX-License-Identifier: Apache-2.0
"""The folder of a store: how it is made, and how anybody knows that it is one."""

from __future__ import annotations

from pathlib import Path

from datapipe.errors import DeclarationError
from datapipe.lineage.journal import Journal
from datapipe.lineage.locks import failed
from datapipe.lineage.stamp import holds, stamp


def make(store: Path) -> None:
    """Make a store where none is; one that is there stays as it is.

    Args:
        store: Its folder.

    Raises:
        ExecutionError: It cannot be made, or a newer datapipe wrote the one that is there.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "store"
        >>> make(folder)
        >>> sorted(p.name for p in folder.iterdir())
        ['format', 'journal', 'log', 'objects', 'tmp']
    """
    try:
        for folder in ("journal", "objects", "log", "tmp"):
            (store / folder).mkdir(parents=True, exist_ok=True)
        Journal(store / "journal").begin()
        stamp(store)
    except OSError as error:
        raise failed(error, f"a store cannot be made in {store}") from error


def check(store: Path) -> None:
    """Find a store in a folder, and one that this datapipe understands.

    Args:
        store: The folder.

    Raises:
        DeclarationError: There is no store.
        ExecutionError: A newer datapipe wrote it.

    Example:
        >>> check(Path("nowhere"))
        Traceback (most recent call last):
        ...
        datapipe.errors.DeclarationError: there is no store in nowhere ...
    """
    if not (store / "journal").is_dir():
        raise DeclarationError(
            f"there is no store in {store}",
            code="DP-DECL-054",
            hint="run a pipeline first, or name the store with --store",
        )
    holds(store)
