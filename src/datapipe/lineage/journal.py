# SPDX-License-Identifier: Apache-2.0
"""The journal: append-only, fsynced, chained records. What stands here has happened.

A record is acknowledged when `append` returns: its batch is on the disk, and `journal/head` names
the end of it. Bytes behind the head that are no complete batch were never acknowledged: a crash
cut them short, and they are moved to `torn-*.bin` before anything is written. A journal that ends
*before* its head has lost acknowledged records: nothing is written to it until somebody decides.
What counts is decided here; how it reaches the disk stands in `segments`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from datapipe.core.digest import canonical
from datapipe.core.merkle import Frontier
from datapipe.errors import TrustError
from datapipe.lineage.frames import BrokenFrame, Frame, batches, has_frame, packed
from datapipe.lineage.locks import failed, locked
from datapipe.lineage.records import START, Entry, Mark, Record, Tail
from datapipe.lineage.segments import Segments
from datapipe.manifest import plain

SEGMENT_BYTES = 64 * 1024 * 1024
"""A segment that has reached this size is not extended; the next one begins."""


class Journal:
    """The records of one store, shared by any number of processes.

    Args:
        folder: The journal's folder; it must exist.

    Example:
        >>> import tempfile
        >>> journal = Journal(Path(tempfile.mkdtemp()))
        >>> journal.append([("runs", {"run_id": "r1"})]).seq
        1
        >>> [(r.seq, r.kind, r.body) for r in journal.read()]
        [(1, 'runs', {'run_id': 'r1'})]
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = folder / "lock"
        self._head = folder / "head"
        self._segments = Segments(folder)
        self._tail: Tail | None = None

    def segment(self, number: int) -> Path:
        """The file of a segment.

        Args:
            number: From 1.

        Returns:
            Its path; it need not exist.

        Example:
            >>> Journal(Path("journal")).segment(1).name
            '000001.log'
        """
        return self._segments.path(number)

    def segments(self) -> list[int]:
        """The segments that are there, those behind a gap included.

        Returns:
            Their numbers, sorted.

        Example:
            >>> Journal(Path("journal")).segments()
            []
        """
        return self._segments.numbers()

    def begin(self) -> None:
        """Write the head of a new journal, so that a missing one always means a loss.

        Without it the very first batch, cut short by a crash, would look like one that was lost.

        Example:
            >>> import tempfile
            >>> journal = Journal(Path(tempfile.mkdtemp()))
            >>> journal.begin()
            >>> journal.acknowledged().mark.seq
            0
        """
        if self._head.exists() or self.segment(1).exists():
            return
        with locked(self._lock):
            if not self._head.exists() and not self.segment(1).exists():
                self._acknowledged(Tail(START, -1, Frontier()))

    def append(self, entries: Sequence[Entry]) -> Mark:
        """Write records as one batch; they are durable, all of them, when this returns.

        Args:
            entries: Kinds and bodies, written in this order.

        Returns:
            The place behind them.

        Raises:
            ExecutionError: The disk is full or failed; nothing of the batch remains.
            TrustError: Acknowledged records are missing, so that nothing may be added.

        Example:
            >>> import tempfile
            >>> Journal(Path(tempfile.mkdtemp())).append([]).seq
            0
        """
        with self.writing() as tail:
            return self.extend(tail, entries).mark if entries else tail.mark

    @contextlib.contextmanager
    def writing(self) -> Iterator[Tail]:
        """Keep every other writer out, for a block that looks before it appends.

        Yields:
            The end of the journal; give it to `extend`.

        Example:
            >>> import tempfile
            >>> with Journal(Path(tempfile.mkdtemp())).writing() as tail:
            ...     tail.mark.seq
            0
        """
        with locked(self._lock):
            yield self._settled()

    def extend(self, tail: Tail, entries: Sequence[Entry]) -> Tail:
        """Write records behind the end; only inside `writing`.

        Args:
            tail: What `writing` gave.
            entries: Kinds and bodies, one or more.

        Returns:
            The new end.

        Raises:
            ExecutionError: The disk is full or failed; nothing of the batch remains.

        Example:
            >>> import tempfile
            >>> journal = Journal(Path(tempfile.mkdtemp()))
            >>> with journal.writing() as tail:
            ...     journal.extend(tail, [("runs", {})]).mark.seq
            1
        """
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        mark = tail.mark
        payloads = [
            canonical(
                {
                    "at": at,
                    "blind": secrets.token_hex(16),  # so that a leaf tells nothing of the content
                    "body": body,
                    "kind": kind,
                    "seq": mark.seq + i,
                }
            )
            for i, (kind, body) in enumerate(entries, 1)
        ]
        block, chain = packed(payloads, mark.chain)
        full = mark.offset >= SEGMENT_BYTES
        segment, offset = (mark.segment + 1, 0) if full else (mark.segment, mark.offset)
        self._segments.write(segment, offset, block)
        frames = next(batches(block, 0, mark.chain))
        tree = tail.tree
        for frame in frames:
            tree = tree.grown(frame.leaf)
        end = Mark(segment, offset + len(block), mark.seq + len(entries), chain)
        return self._acknowledged(Tail(end, offset + frames[-1].start, tree))

    def tail(self) -> Tail:
        """The end of the journal, what a crash left behind it set aside.

        Returns:
            The end; every record before it is durable.

        Raises:
            TrustError: Acknowledged records are missing.

        Example:
            >>> import tempfile
            >>> Journal(Path(tempfile.mkdtemp())).tail().tree.size
            0
        """
        with self.writing() as tail:
            return tail

    def read(self, after: Mark = START, until: Mark | None = None) -> Iterator[Record]:
        """The records behind a place, in order, each checked against checksum and chain.

        Args:
            after: Where to begin.
            until: Where to end; None for everything that is complete.

        Yields:
            The records.

        Raises:
            TrustError: A frame is damaged or missing.

        Example:
            >>> import tempfile
            >>> list(Journal(Path(tempfile.mkdtemp())).read())
            []
        """
        seq = after.seq
        for _, batch in self._segments.batches(after, until):
            for frame in batch:
                seq += 1
                yield Record(seq, frame.payload, frame.leaf, frame.erased)
        if until is not None and seq < until.seq:
            raise _lost(self.folder, until.seq, seq)

    def acknowledged(self) -> Tail | None:
        """The end that `journal/head` names, whether or not the journal reaches it.

        Returns:
            The end, or None when there is no readable head.

        Example:
            >>> import tempfile
            >>> Journal(Path(tempfile.mkdtemp())).acknowledged() is None
            True
        """
        try:
            text, _, stated = plain.content(self._head).partition(b"\n")
            if hashlib.sha256(text).hexdigest().encode() != stated.strip():
                return None
            form = json.loads(text)
        except (OSError, ValueError, TrustError):
            return None
        mark = Mark(form["segment"], form["offset"], form["seq"], bytes.fromhex(form["chain"]))
        tree = Frontier(form["seq"], tuple(bytes.fromhex(h) for h in form["frontier"]))
        return Tail(mark, form["last"], tree)

    def torn(self) -> list[Path]:
        """What crashes left behind: batches that were never acknowledged.

        Returns:
            The files they were moved to.

        Example:
            >>> import tempfile
            >>> Journal(Path(tempfile.mkdtemp())).torn()
            []
        """
        return sorted(self.folder.glob("torn-*.bin"))

    def redact(self, left: Mapping[int, bytes]) -> None:
        """Put less in the place of some records; leaves, chain and every offset stay.

        Each segment is written anew beside the old one and takes its place in one step. A record
        that says who was entitled to do so must have been appended before.

        Args:
            left: Number of a record to what is left of its payload.

        Raises:
            ExecutionError: The disk is full or failed; a segment is then as it was.

        Example:
            >>> import tempfile
            >>> journal = Journal(Path(tempfile.mkdtemp()))
            >>> _ = journal.append([("runs", {"run_id": "r1", "pipeline": "of ada"})])
            >>> journal.redact({1: b'{"at":"","body":{"run_id":"r1"},"kind":"runs","seq":1}'})
            >>> [(r.body, r.erased) for r in journal.read()], journal.tail().mark.seq
            ([({'run_id': 'r1'}, True)], 1)
        """
        with self.writing() as tail:
            places: dict[int, list[tuple[Frame, bytes]]] = {}
            seq = 0
            for segment, batch in self._segments.batches(START, tail.mark):
                for frame in batch:
                    seq += 1
                    if seq in left:
                        places.setdefault(segment, []).append((frame, left[seq]))
            for segment, changed in places.items():
                self._segments.rewrite(segment, changed)

    def accept(self) -> Tail:
        """Take the journal as it is for the truth, after somebody decided that a loss is one.

        The damaged rest of a segment and all segments behind it are moved aside, not deleted.

        Returns:
            The end as it now is.

        Example:
            >>> import tempfile
            >>> Journal(Path(tempfile.mkdtemp())).accept().mark.seq
            0
        """
        with locked(self._lock):
            self._tail = None
            self._head.unlink(missing_ok=True)
            tail, broken = self._forward(Tail(START, -1, Frontier()))
            later = [n for n in self._segments.numbers() if n > tail.mark.segment]
            for path in map(self.segment, later):
                path.rename(self.folder / f"torn-{path.stem}-0.bin")
            if broken is not None:
                self._segments.set_aside(tail.mark.segment, broken.offset)
            return self._acknowledged(tail)

    def _settled(self) -> Tail:
        """The end of the journal, made fit for writing; only under the lock."""
        known = self._tail or self.acknowledged()
        if known is None:
            return self._settled_from_start()
        if not self._segments.reaches(known):
            raise _lost(self.folder, known.mark.seq, self._count())
        tail, broken = self._forward(known)
        if broken is not None:
            self._segments.set_aside(tail.mark.segment, broken.offset)
        return tail if tail == self._tail else self._acknowledged(tail, sync=tail != known)

    def _settled_from_start(self) -> Tail:
        """Without a head every byte is read, and only a cut at the very end passes for a crash."""
        tail, broken = self._forward(Tail(START, -1, Frontier()))
        if broken is not None:
            data = plain.content(self.segment(tail.mark.segment))
            later = self.segment(tail.mark.segment + 1).exists()
            if later or has_frame(data, broken.offset + 1):
                raise broken
            self._segments.set_aside(tail.mark.segment, broken.offset)
        return self._acknowledged(tail, sync=True) if tail.mark.seq else tail

    def _forward(self, tail: Tail) -> tuple[Tail, BrokenFrame | None]:
        """The end found by reading on from a known one, and what ended it."""
        try:
            for segment, batch in self._segments.batches(tail.mark, None):
                tree = tail.tree
                for frame in batch:
                    tree = tree.grown(frame.leaf)
                end = batch[-1]
                mark = Mark(segment, end.end, tree.size, end.chain)
                tail = Tail(mark, end.start, tree)
        except BrokenFrame as broken:
            return tail, broken
        return tail, None

    def _count(self) -> int:
        return self._forward(Tail(START, -1, Frontier()))[0].mark.seq

    def _acknowledged(self, tail: Tail, *, sync: bool = False) -> Tail:
        """Remember an end, here and in `journal/head`.

        The head is a witness and a short cut, not the truth: when it cannot be written the records
        are durable all the same, and the next writer reads on from the older one.
        """
        path = self.segment(tail.mark.segment)
        if sync and path.exists():
            try:
                with plain.reading(path) as file:
                    os.fsync(file.fileno())
            except OSError as error:
                raise failed(error, f"{path} could not be made durable") from error
        mark = tail.mark
        text = canonical(
            {
                "segment": mark.segment,
                "offset": mark.offset,
                "last": tail.last,
                "seq": mark.seq,
                "chain": mark.chain.hex(),
                "frontier": [h.hex() for h in tail.tree.stack],
            }
        )
        partial = self.folder / "head.partial"
        with contextlib.suppress(OSError):
            partial.write_bytes(text + b"\n" + hashlib.sha256(text).hexdigest().encode() + b"\n")
            partial.replace(self._head)
        self._tail = tail
        return tail


def _lost(folder: Path, stated: int, found: int) -> TrustError:
    return TrustError(
        f"{folder}: tail lost: {stated} records were acknowledged, the journal has {found}",
        code="DP-TRUST-702",
        hint="restore journal/ from a copy, or go on without what is lost: "
        "`datapipe lineage rebuild --accept-loss`",
        path=str(folder),
    )
