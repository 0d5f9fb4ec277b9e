# SPDX-License-Identifier: Apache-2.0
"""Whether what lies under an object's name is that object, told without reading it.

A result that is used again is not hashed again: a run that changes nothing reads no data. Checksums
of pages tell a flipped bit, but not a sound file that was put in the place of another. So a step
records what its objects end with. A Parquet file of ours ends with the seal of its footer, which
covers the header and with it the checksum of every page: no two files of other rows end alike.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datapipe.errors import TrustError
from datapipe.lineage.objects import bare
from datapipe.lineage.store import Lineage
from datapipe.manifest.plain import reading

END_BYTES = 4096
TABLES = ("dataset_out", "aside", "changes", "weights", "edges")


def ends_of(result: Mapping[str, Any], lineage: Lineage) -> dict[str, str]:
    """What the objects that a result names begin and end with.

    Args:
        result: What is recorded of a step.
        lineage: The store that holds them.

    Returns:
        Digest of each object to that of its size and ends.

    Example:
        >>> import tempfile
        >>> store = Lineage(tempfile.mkdtemp(), create=True)
        >>> digest, _ = store.put_bytes(b"abc")
        >>> [len(told) for told in ends_of({"aside": digest}, store).values()]
        [32]
    """
    found = ((digest, lineage.object_path(digest)) for digest in sorted({*_named(result)}))
    return {digest: _ends(path) for digest, path in found if path is not None}


def hold_to_ends(result: Mapping[str, Any], lineage: Lineage) -> None:
    """Refuse a result of which an object is not what lay under its name when it was recorded.

    Args:
        result: What was recorded of a step; one of an earlier version tells of no ends.
        lineage: The store that holds its objects.

    Raises:
        TrustError: Another file lies in the place of one of them.

    Example:
        >>> import tempfile
        >>> store = Lineage(tempfile.mkdtemp(), create=True)
        >>> digest, path = store.put_bytes(b"abc")
        >>> result = {"aside": digest, "ends": ends_of({"aside": digest}, store)}
        >>> hold_to_ends(result, store)
        >>> _ = path.write_bytes(b"abd")
        >>> hold_to_ends(result, store)
        Traceback (most recent call last):
        ...
        datapipe.errors.TrustError: ...: another file lies under this object's name [DP-TRUST-711]
        <BLANKLINE>
        hint: move the file away and run again: what it held is made anew
    """
    for digest, told in result.get("ends", {}).items():
        path = lineage.object_path(digest)
        if path is not None and _ends(path) != told:
            raise TrustError(
                f"{path}: another file lies under this object's name",
                code="DP-TRUST-711",
                hint="move the file away and run again: what it held is made anew",
                path=str(lineage.objects / bare(digest)),
            )


def _named(result: Mapping[str, Any]) -> Iterator[str]:
    named = [result.get(name) for name in TABLES]
    named += [finding["rows_object"] for finding in result.get("findings", ())]
    named += [artifact["digest"] for artifact in result.get("artifacts", ())]
    named += result.get("trained_on", {}).values()
    yield from filter(None, named)


def _ends(path: Path) -> str:
    status = path.stat()
    return _read(path, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))


@functools.lru_cache(maxsize=256)
def _read(path: Path, stamp: tuple[int, ...]) -> str:
    """Read once for all steps of a group, unless the file has changed."""
    size = stamp[0]
    with reading(path) as file:
        first = file.read(END_BYTES)
        file.seek(max(0, size - END_BYTES), os.SEEK_SET)
        last = file.read(END_BYTES)
    return hashlib.sha256(b"%d\n" % size + first + last).hexdigest()[:32]
