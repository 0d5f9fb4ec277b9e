# SPDX-License-Identifier: Apache-2.0
"""The form of the journal on disk: records in frames, frames in batches, each chained to the last.

    frame  = magic "DPJ1" | length u32 | more u32 | crc32 u32 | chain 32 bytes | payload
    chain  = sha256(chain before | leaf)        leaf = sha256(0x00 | payload), as in the Merkle log
    more   = how many records of the same batch still follow; a batch counts only when it ends

Numbers are little-endian. The checksum covers everything behind the magic but itself. A frame
therefore tells a cut, a flipped bit, a swap and a missing neighbour apart from sound data.

A record whose content was erased keeps its place, length, leaf and chain; its frame begins with
"DPJE", and its payload is the leaf (32 bytes), what is left of the record, and spaces. Whether
somebody was entitled to redact it is said by a later record, not by the frame.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datapipe.core.merkle import leaf_hash
from datapipe.errors import DeclarationError, TrustError

MAGIC = b"DPJ1"
ERASED = b"DPJE"
LEAF_BYTES = 32
HEADER = struct.Struct("<4sIII32s")
NO_CHAIN = bytes(32)
"""What the first frame is chained to."""


class BrokenFrame(TrustError):
    """The bytes at an offset are no sound frame.

    Args:
        message: What is wrong with them.
        offset: Where, in bytes from the start of the segment.

    Example:
        >>> BrokenFrame("cut short", offset=96).offset
        96
    """

    default_code = "DP-TRUST-701"

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(
            f"{message} at byte {offset}",
            hint="restore journal/ from a copy; `datapipe verify` says what is left",
        )
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Frame:
    """One record as it stands in the journal.

    Args:
        payload: The record's canonical JSON.
        leaf: Its leaf in the Merkle log, 32 bytes.
        chain: The chain up to and including it, 32 bytes.
        more: How many records of its batch follow.
        start: Offset of its first byte in the segment.
        end: Offset behind its last byte.
        erased: Whether content was erased from it, so that the leaf is stated and not computed.

    Example:
        >>> block, _ = packed([b"{}"], NO_CHAIN)
        >>> next(batches(block, 0, NO_CHAIN))[0].payload
        b'{}'
    """

    payload: bytes
    leaf: bytes
    chain: bytes
    more: int
    start: int
    end: int
    erased: bool = False


def packed(payloads: Sequence[bytes], chain: bytes) -> tuple[bytes, bytes]:
    """Records as one batch, to be written in one go.

    Args:
        payloads: The records' bytes, one or more.
        chain: The chain so far, 32 bytes.

    Returns:
        The batch's bytes, and the chain after it.

    Example:
        >>> block, chain = packed([b"one", b"two"], NO_CHAIN)
        >>> len(block) == 2 * HEADER.size + 6
        True
    """
    parts: list[bytes] = []
    for more, payload in zip(range(len(payloads) - 1, -1, -1), payloads, strict=True):
        chain = hashlib.sha256(chain + leaf_hash(payload)).digest()
        crc = _crc(len(payload), more, chain, payload)
        parts += (HEADER.pack(MAGIC, len(payload), more, crc, chain), payload)
    return b"".join(parts), chain


def redacted(frame: Frame, payload: bytes) -> bytes:
    """A frame with less in it, of the same length, so that no other frame moves.

    Args:
        frame: The frame as it is.
        payload: What is left of its record.

    Returns:
        The bytes that take the frame's place.

    Raises:
        DeclarationError: What is left does not fit beside the leaf.

    Example:
        >>> frame = next(batches(packed([b"x" * 50], NO_CHAIN)[0], 0, NO_CHAIN))[0]
        >>> after = next(batches(redacted(frame, b"{}"), 0, NO_CHAIN))[0]
        >>> after.payload, after.leaf == frame.leaf, after.end == frame.end, after.erased
        (b'{}', True, True, True)
    """
    length = frame.end - frame.start - HEADER.size
    if LEAF_BYTES + len(payload) > length:
        raise DeclarationError(
            f"{len(payload)} bytes and a leaf do not fit into a frame of {length}",
            code="DP-DECL-073",
            hint="leave less of the record: what_is_left does",
        )
    whole = (frame.leaf + payload).ljust(length)
    crc = _crc(length, frame.more, frame.chain, whole)
    return HEADER.pack(ERASED, length, frame.more, crc, frame.chain) + whole


def batches(data: bytes, start: int, chain: bytes) -> Iterator[list[Frame]]:
    """The complete batches in some bytes of a segment.

    Args:
        data: The segment's bytes.
        start: Offset of a frame.
        chain: The chain up to that frame, 32 bytes.

    Yields:
        Lists of frames, each a batch that was written in one go.

    Raises:
        BrokenFrame: What follows the last complete batch is not one.

    Example:
        >>> list(batches(b"junk", 0, NO_CHAIN))
        Traceback (most recent call last):
        ...
        datapipe.lineage.frames.BrokenFrame: a frame is cut short at byte 0 [DP-TRUST-701]
        <BLANKLINE>
        hint: restore journal/ from a copy; `datapipe verify` says what is left
    """
    held: list[Frame] = []
    while start < len(data):
        frame = _frame(data, start, chain)
        if held and frame.more != held[-1].more - 1:
            raise BrokenFrame("a batch has a gap", offset=held[0].start)
        held.append(frame)
        start, chain = frame.end, frame.chain
        if frame.more == 0:
            yield held
            held = []
    if held:
        raise BrokenFrame("a batch is cut short", offset=held[0].start)


def has_frame(data: bytes, start: int) -> bool:
    """Whether any sound frame begins behind an offset, whatever it is chained to.

    It tells damage in the middle (sound frames follow) from a write that a crash cut short.

    Args:
        data: The segment's bytes.
        start: Where to begin looking.

    Returns:
        True when there is one.

    Example:
        >>> block, _ = packed([b"{}"], NO_CHAIN)
        >>> has_frame(b"junk" + block, 0), has_frame(block[:-1], 0)
        (True, False)
    """
    at = data.find(MAGIC[:3], start)
    while at >= 0:
        if len(data) - at >= HEADER.size:
            magic, length, more, crc, chain = HEADER.unpack_from(data, at)
            payload = data[at + HEADER.size : at + HEADER.size + length]
            known = magic in (MAGIC, ERASED)
            if known and len(payload) == length and crc == _crc(length, more, chain, payload):
                return True
        at = data.find(MAGIC[:3], at + 1)
    return False


def _frame(data: bytes, start: int, chain: bytes) -> Frame:
    """The frame at an offset, checked."""
    body = start + HEADER.size
    if len(data) < body:
        raise BrokenFrame("a frame is cut short", offset=start)
    magic, length, more, crc, stated = HEADER.unpack_from(data, start)
    if magic not in (MAGIC, ERASED):
        raise BrokenFrame("not the start of a frame", offset=start)
    payload = data[body : body + length]
    if len(payload) < length:
        raise BrokenFrame("a frame is cut short", offset=start)
    if crc != _crc(length, more, stated, payload):
        raise BrokenFrame("the checksum does not hold", offset=start)
    erased = magic == ERASED
    leaf = payload[:LEAF_BYTES] if erased else leaf_hash(payload)
    if stated != hashlib.sha256(chain + leaf).digest():
        raise BrokenFrame("the chain does not hold: a record before it is missing", offset=start)
    if erased:
        payload = payload[LEAF_BYTES:].rstrip(b" ")
    return Frame(payload, leaf, stated, more, start, body + length, erased)


def _crc(length: int, more: int, chain: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<II", length, more) + chain))
