# SPDX-License-Identifier: Apache-2.0
"""Records of the journal, and places between them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datapipe.core.merkle import Frontier
from datapipe.lineage.frames import NO_CHAIN

Entry = tuple[str, Mapping[str, Any]]
"""A kind and a body: what a caller hands in."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place between two batches of the journal.

    Args:
        segment: Number of the segment, from 1.
        offset: Bytes from its start.
        seq: Number of the last record before it, 0 at the very start.
        chain: The chain up to it, 32 bytes.

    Example:
        >>> START.seq
        0
    """

    segment: int
    offset: int
    seq: int
    chain: bytes


START = Mark(1, 0, 0, NO_CHAIN)


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of the journal, with what is needed to extend it.

    Args:
        mark: The place behind the last complete batch.
        last: Offset of the last frame's header in that segment, -1 when there is none.
        tree: The Merkle log over all records.

    Example:
        >>> Tail(START, -1, Frontier()).tree.size
        0
    """

    mark: Mark
    last: int
    tree: Frontier


@dataclass(frozen=True)
class Record:
    """One record of the journal.

    Args:
        seq: Its number, from 1.
        payload: Its canonical JSON: `{"at": …, "blind": …, "body": …, "kind": …, "seq": …}`.
        leaf: Its leaf in the Merkle log, 32 bytes.
        erased: Whether content was erased from it.

    Example:
        >>> Record(1, b'{"at":"2026-01-01","body":{},"kind":"runs","seq":1}', b"").kind
        'runs'
    """

    seq: int
    payload: bytes
    leaf: bytes
    erased: bool = False

    @cached_property
    def form(self) -> dict[str, Any]:
        """The whole record, read from its JSON."""
        found: dict[str, Any] = json.loads(self.payload)
        return found

    @property
    def kind(self) -> str:
        """Which table it belongs to."""
        return str(self.form["kind"])

    @property
    def body(self) -> dict[str, Any]:
        """Its columns."""
        found: dict[str, Any] = self.form["body"]
        return found

    @property
    def recorded_at(self) -> str:
        """When it was appended: ISO 8601 in UTC."""
        return str(self.form["at"])

    def is_of(self, kind: str) -> bool:
        """Whether it is of a kind, told without reading its JSON.

        Args:
            kind: A table's name.

        Returns:
            True when it is.

        Example:
            >>> Record(1, b'{"at":"","body":{},"kind":"runs","seq":1}', b"").is_of("runs")
            True
        """
        return self.payload.endswith(f'"kind":"{kind}","seq":{self.seq}}}'.encode())
