# SPDX-License-Identifier: Apache-2.0
"""The files of a journal: whole batches in and out, durably, and what is torn moved aside.

Which of them count as acknowledged is not known here; only the holder of the journal's lock writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from datapipe.lineage.durable import sync_folder, write_all
from datapipe.lineage.frames import HEADER, BrokenFrame, Frame, batches, redacted
from datapipe.lineage.locks import failed
from datapipe.lineage.records import Mark, Tail
from datapipe.manifest import plain


class Segments:
    """The numbered files of one journal.

    Args:
        folder: The journal's folder; it must exist.

    Example:
        >>> Segments(Path("journal")).path(1).name
        '000001.log'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, number: int) -> Path:
        """The file of a segment.

        Args:
            number: From 1.

        Returns:
            Its path; it need not exist.

        Example:
            >>> Segments(Path("journal")).path(12).name
            '000012.log'
        """
        return self.folder / f"{number:06}.log"

    def numbers(self) -> list[int]:
        """The segments that are there; other files in the folder are nobody's.

        Returns:
            Their numbers, sorted.

        Example:
            >>> Segments(Path("journal")).numbers()
            []
        """
        stems = [path.stem for path in self.folder.glob("*.log")]
        found = {int(stem) for stem in stems if stem.isascii() and stem.isdecimal()}
        return sorted(number for number in found if self.path(number).stem in stems)

    def batches(self, after: Mark, until: Mark | None) -> Iterator[tuple[int, list[Frame]]]:
        """The batches behind a place, in order, each checked against checksum and chain.

        Args:
            after: Where to begin.
            until: Where to end; None for everything that is complete.

        Yields:
            The number of the segment, and the frames of one batch.

        Raises:
            BrokenFrame: What stands there next is no whole batch.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.records import START
            >>> list(Segments(Path(tempfile.mkdtemp())).batches(START, None))
            []
        """
        number, offset, chain = after.segment, after.offset, after.chain
        last = until.segment if until else None
        while (last is None or number <= last) and (path := self.path(number)).exists():
            with plain.reading(path) as file:
                file.seek(offset)
                data = file.read(until.offset - offset if until and number == last else -1)
            try:
                for batch in batches(data, 0, chain):
                    chain = batch[-1].chain
                    yield number, [_moved(frame, offset) for frame in batch]
            except BrokenFrame as broken:
                raise _placed(broken, path, offset) from None
            number, offset = number + 1, 0

    def reaches(self, tail: Tail) -> bool:
        """Whether the frame that a known end stands behind is still there.

        Args:
            tail: The end.

        Returns:
            False too where its file cannot be read.

        Example:
            >>> from datapipe.core.merkle import Frontier
            >>> from datapipe.lineage.records import START
            >>> Segments(Path("journal")).reaches(Tail(START, -1, Frontier()))
            True
        """
        if tail.mark.seq == 0:
            return True
        try:
            with plain.reading(self.path(tail.mark.segment)) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(tail.last)
                header = file.read(HEADER.size)
        except OSError:
            return False
        return size >= tail.mark.offset and header.endswith(tail.mark.chain)

    def write(self, number: int, offset: int, block: bytes) -> None:
        """Write a batch; it is durable when this returns.

        Args:
            number: The segment.
            offset: Where in it the batch begins, in bytes.
            block: The batch, packed.

        Raises:
            ExecutionError: The disk is full or failed; nothing of the batch remains.

        Example:
            >>> import tempfile
            >>> segments = Segments(Path(tempfile.mkdtemp()))
            >>> segments.write(1, 0, b"abc")
            >>> segments.path(1).read_bytes()
            b'abc'
        """
        path = self.path(number)
        fresh = not path.exists()
        try:
            descriptor = plain.opened(path, os.O_WRONLY | os.O_CREAT)
        except OSError as error:
            raise failed(error, f"{path} cannot be opened") from error
        try:
            write_all(descriptor, block, offset)
            os.fsync(descriptor)
            if fresh:
                sync_folder(self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):  # an incomplete batch does not count either way
                os.ftruncate(descriptor, offset)
                os.fsync(descriptor)
            raise failed(error, f"{len(block)} bytes could not be added to {path}") from error
        finally:
            os.close(descriptor)

    def rewrite(self, number: int, changed: Sequence[tuple[Frame, bytes]]) -> None:
        """Put less in the place of some frames; the new file takes the old one's place in one step.

        Args:
            number: The segment.
            changed: Frames of it, each with what is left of its payload.

        Raises:
            ExecutionError: The disk is full or failed; the segment is as it was.

        Example:
            >>> import tempfile
            >>> segments = Segments(Path(tempfile.mkdtemp()))
            >>> segments.write(1, 0, b"abc")
            >>> segments.rewrite(1, [])
        """
        path = self.path(number)
        data = bytearray(plain.content(path))
        for frame, payload in changed:
            data[frame.start : frame.end] = redacted(frame, payload)
        partial = path.with_name(f"{path.name}.partial")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync_folder(self.folder)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise failed(error, f"{path} could not be written anew") from error

    def set_aside(self, number: int, offset: int) -> None:
        """Move what a crash left behind the last complete batch out of the way, and keep it.

        Args:
            number: The segment; it need not exist.
            offset: Where the last complete batch ends, in bytes.

        Raises:
            ExecutionError: The disk is full or failed.

        Example:
            >>> import tempfile
            >>> segments = Segments(Path(tempfile.mkdtemp()))
            >>> segments.write(1, 0, b"whole, torn")
            >>> segments.set_aside(1, 5)
            >>> segments.path(1).read_bytes()
            b'whole'
        """
        path = self.path(number)
        if not path.exists():
            return
        with path.open("r+b") as file:
            file.seek(offset)
            target = self.folder / f"torn-{path.stem}-{offset}.bin"
            try:
                with target.open("wb") as torn:
                    torn.write(file.read())
                    torn.flush()
                    os.fsync(torn.fileno())
                file.truncate(offset)
                os.fsync(file.fileno())
            except OSError as error:
                raise failed(error, f"the torn end of {path} could not be moved") from error
        sync_folder(self.folder)


def _moved(frame: Frame, by: int) -> Frame:
    if not by:
        return frame
    return replace(frame, start=frame.start + by, end=frame.end + by)


def _placed(broken: BrokenFrame, path: Path, by: int) -> BrokenFrame:
    what = broken.message.rpartition(" at byte ")[0]
    placed = BrokenFrame(f"{path}: {what}", offset=broken.offset + by)
    placed.path = str(path)
    return placed
