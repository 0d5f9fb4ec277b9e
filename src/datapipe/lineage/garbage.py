# SPDX-License-Identifier: Apache-2.0
"""What a store keeps and nothing needs: leftovers of crashes, and results nobody can find again.

An object is needed when any record of the journal mentions its digest in any place, or a cache
does. That is more than is strictly needed, and on the safe side.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from datapipe.errors import ExecutionError
from datapipe.lineage.durable import sync_folder
from datapipe.lineage.locks import failed
from datapipe.lineage.objects import bare
from datapipe.lineage.records import Record
from datapipe.manifest.plain import content

FORGOTTEN_S = 7 * 86_400
"""An unfinished output that no run went on with for this long is not needed any more."""

_DIGEST = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file that nothing needs.

    Args:
        path: Where it lies.
        size_bytes: Its size.
        says: What it is, in a few words.

    Example:
        >>> Garbage(Path("objects/ab"), 7, "an object that no record names").size_bytes
        7
    """

    path: Path
    size_bytes: int
    says: str


def garbage(store: Path, records: Iterable[Record], *, older_than_s: float) -> list[Garbage]:
    """Find what nothing needs; nothing is removed.

    Args:
        store: The store's folder.
        records: All records of its journal.
        older_than_s: Younger files are left alone, in seconds: somebody may be about to name them.

    Returns:
        The files, by path.

    Raises:
        ExecutionError: A folder cannot be read.

    Example:
        >>> import tempfile
        >>> garbage(Path(tempfile.mkdtemp()), [], older_than_s=0)
        []
    """
    named: set[str] = set()
    for record in records:
        named.update(d.decode() for d in _DIGEST.findall(record.payload))
    for cache in _listed(store / "cache"):
        if cache.is_file():
            named.update(d.decode() for d in _DIGEST.findall(content(cache)))
    now = time.time()
    found: list[Garbage] = []
    for path, says in _candidates(store, named):
        status = path.stat()
        if now - status.st_mtime >= older_than_s:
            found.append(Garbage(path, status.st_size, says))
    return sorted(found, key=lambda g: g.path)


def removed(found: Iterable[Garbage]) -> int:
    """Remove what was found.

    Args:
        found: From `garbage`.

    Returns:
        How many bytes were freed.

    Raises:
        ExecutionError: A file cannot be removed.

    Example:
        >>> removed([])
        0
    """
    freed = 0
    folders: set[Path] = set()
    for each in found:
        try:
            each.path.unlink(missing_ok=True)
        except OSError as error:
            raise failed(error, f"{each.path} cannot be removed") from error
        freed += each.size_bytes
        folders.add(each.path.parent)
    for folder in folders:
        sync_folder(folder)
    return freed


def refuse_links(store: Path) -> None:
    """Refuse to remove anything in a store of which a part lies elsewhere.

    Args:
        store: The store's folder.

    Raises:
        ExecutionError: A folder of it is a link.

    Example:
        >>> import tempfile
        >>> refuse_links(Path(tempfile.mkdtemp()))
    """
    for each in store.iterdir():
        if each.is_symlink():
            raise ExecutionError(
                f"{each} is a link: another store may need what lies there",
                code="DP-EXEC-059",
                hint="give each store a folder of its own before anything is removed",
            )


def _listed(folder: Path) -> list[Path]:
    """What a folder holds, if it is there: one that cannot be read is not one that is empty."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failed(error, f"{folder} cannot be read") from error


def _candidates(store: Path, named: set[str]) -> Iterator[tuple[Path, str]]:
    for path in _listed(store / "objects"):
        if path.is_file() and bare(path.name) not in named:
            yield path, "an object that no record names"
    for path in (store / "journal").glob("torn-*.bin"):
        yield path, "a batch that a crash cut short; it was never acknowledged"
    for path in (*_listed(store / "damaged"), *store.glob("lineage.damaged")):
        yield path, "damaged, and set aside by a rebuild"
    for path in store.glob("lineage.partial*"):
        yield path, "an index that was never finished"
    for folder in (store / "partial").glob("*"):
        files = [path for path in folder.glob("*") if path.is_file()]
        if time.time() - max((p.stat().st_mtime for p in files), default=0.0) > FORGOTTEN_S:
            yield from ((p, "of an interrupted run that nobody went on with") for p in files)
