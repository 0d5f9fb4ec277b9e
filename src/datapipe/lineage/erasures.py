# SPDX-License-Identifier: Apache-2.0
"""What erasures took out of a store, as its journal tells it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from datapipe.core.digest import PREFIX
from datapipe.lineage.objects import bare
from datapipe.lineage.records import Record
from datapipe.lineage.stamp import ERASED, holds

ERASURE = "erasure"
"""Pipeline and stage that an erasure is recorded as."""
ERASED_REASON = "erased at the person's request"


class Erasures:
    """Objects that were erased and records that were redacted.

    Args:
        records: The journal's records, or those of them that may be of kind `erased`.

    Example:
        >>> Erasures([]).now("sha256:ab", 3)
        'sha256:ab'
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._objects: dict[str, list[tuple[int, str, str]]] = {}
        self._left: dict[int, str] = {}
        for record in records:
            if not record.is_of("erased"):
                continue
            body = record.body
            if body.get("record"):
                self._left[int(body["record"])] = str(body.get("digest"))
            elif body.get("digest") and body.get("remedy") in ("rewritten", "retrained", "retired"):
                after, erasure = str(body.get("replaced_by") or ""), str(body.get("erasure_id"))
                held = self._objects.setdefault(bare(str(body["digest"])), [])
                held.append((record.seq, after, erasure))

    def now(self, digest: str, seq: int = 0) -> str:
        """The object that stands for one which a record names.

        An object that is made again after its erasure counts for later records only.

        Args:
            digest: What the record names.
            seq: The record's number; 0 for the first of them.

        Returns:
            The same digest when nothing was erased from it, else what took its place; empty when
            nothing did.

        Example:
            >>> from datapipe.core.digest import canonical
            >>> body = {"digest": "sha256:ab", "remedy": "rewritten", "replaced_by": "sha256:cd"}
            >>> form = {"at": "", "body": body, "kind": "erased", "seq": 7}
            >>> gone = Record(7, canonical(form), b"")
            >>> Erasures([gone]).now("sha256:ab", 3), Erasures([gone]).now("sha256:ab", 8)
            ('sha256:cd', 'sha256:ab')
        """
        while digest:
            later = [e for e in self._objects.get(bare(digest), ()) if e[0] > seq]
            if not later:
                break
            seq, digest, _ = later[0]
        return digest

    def by(self, digest: str) -> str:
        """The erasure that took an object out of the store.

        Args:
            digest: The object.

        Returns:
            The newest erasure's id; empty when there was none.

        Example:
            >>> Erasures([]).by("sha256:ab")
            ''
        """
        found = self._objects.get(bare(digest))
        return found[-1][2] if found else ""

    def covers(self, record: Record) -> bool:
        """Whether a redacted record is what an erasure left of it.

        Args:
            record: A redacted record.

        Returns:
            True when an erasure says so.

        Example:
            >>> Erasures([]).covers(Record(1, b"{}", b"", erased=True))
            False
        """
        return self._left.get(record.seq) == PREFIX + hashlib.sha256(record.payload).hexdigest()


def was_erased(store: Path) -> bool:
    """Whether anything was ever erased from a store, told without reading its journal.

    Args:
        store: Its folder.

    Returns:
        True when its stamp says so.

    Example:
        >>> was_erased(Path("nowhere"))
        False
    """
    return ERASED in holds(store)
