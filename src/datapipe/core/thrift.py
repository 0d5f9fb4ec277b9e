# SPDX-License-Identifier: Apache-2.0
"""Thrift's compact protocol, as far as Parquet needs it: read without trust, written back equal.

A struct keeps the type of each field, so that what was read and not touched is written again byte
for byte. Every length is held against the bytes there are before anything is made of it.
"""

from __future__ import annotations

import mmap
from typing import Any, Self

from datapipe.errors import DatapipeError

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
NUMBERS = (I16, I32, I64)
MAX_DEPTH = 24
Raw = bytes | bytearray | memoryview | mmap.mmap


class Damaged(DatapipeError):
    """Bytes that contradict themselves or their file; told by whoever knows the file.

    Example:
        >>> Damaged("its end is missing").message
        'its end is missing'
    """


class Struct(dict[int, Any]):
    r"""Field number to value; `types` has the wire type of each field.

    Example:
        >>> made = Struct.of({1: (I32, 5)})
        >>> made[1], written(made)
        (5, b'\x15\n\x00')
    """

    def __init__(self) -> None:
        super().__init__()
        self.types: dict[int, int] = {}

    @classmethod
    def of(cls, fields: dict[int, tuple[int, Any]]) -> Self:
        """A struct from field number to (wire type, value).

        Args:
            fields: Its fields.

        Returns:
            The struct.

        Example:
            >>> Struct.of({1: (BINARY, b"a")})[1]
            b'a'
        """
        made = cls()
        for number, (kind, value) in fields.items():
            made.put(number, kind, value)
        return made

    def put(self, number: int, kind: int, value: Any) -> None:
        """Set a field.

        Args:
            number: Its number.
            kind: Its wire type.
            value: Its value.

        Example:
            >>> made = Struct()
            >>> made.put(2, I64, 7)
            >>> made[2]
            7
        """
        self[number] = value
        self.types[number] = kind


class Items(list[Any]):
    """The items of a list, all of one wire type.

    Args:
        kind: The wire type.
        items: The items.

    Example:
        >>> Items(I32, [1, 2]).kind == I32
        True
    """

    def __init__(self, kind: int, items: list[Any]) -> None:
        super().__init__(items)
        self.kind = kind


class Compact:
    r"""Reads structs, one after the other.

    Args:
        raw: The bytes.
        at: Where the first struct begins.

    Example:
        >>> reader = Compact(b"\x15\n\x00rest")
        >>> reader.struct(), reader.at
        ({1: 5}, 3)
    """

    def __init__(self, raw: Raw, at: int = 0) -> None:
        self.raw = raw
        self.at = at

    def struct(self) -> Struct:
        r"""The struct that begins here.

        Returns:
            The struct; `at` stands behind it.

        Raises:
            Damaged: It ends early, is nested too deep, or holds what Parquet never holds.
            IndexError: It ends with the bytes.

        Example:
            >>> Compact(b"\x00").struct()
            {}
        """
        found, self.at = _struct(self.raw, self.at, 0)
        return found


# A large file has a page every few kilobytes and some twenty numbers a page, so these functions
# hand the position on instead of keeping it, and read the usual number of one byte in place.


def _struct(raw: Raw, at: int, depth: int) -> tuple[Struct, int]:
    if depth > MAX_DEPTH:
        raise Damaged("its footer is nested too deep")
    fields = Struct()
    types = fields.types
    last = 0
    while head := raw[at]:
        kind = head & 15
        last, at = _field(raw, at, last)
        types[last] = kind
        if kind in NUMBERS:
            number = raw[at]
            at += 1
            if number > 127:
                number, at = _unsigned(raw, at - 1)
            fields[last] = (number >> 1) ^ -(number & 1)
        elif kind <= FALSE:
            fields[last] = kind == TRUE
        else:
            fields[last], at = _value(raw, at, kind, depth)
    return fields, at + 1


def _value(raw: Raw, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind == BINARY:
        size, at = _unsigned(raw, at)
        return _taken(raw, at, size), at + size
    if kind == STRUCT:
        return _struct(raw, at, depth + 1)
    if kind in (LIST, SET):
        return _list(raw, at, depth)
    if kind in NUMBERS:
        number, at = _unsigned(raw, at)
        return (number >> 1) ^ -(number & 1), at
    if kind in (BYTE, DOUBLE):
        size = 1 if kind == BYTE else 8
        return _taken(raw, at, size), at + size
    raise Damaged(f"its footer holds a value of the unknown type {kind}")


def _list(raw: Raw, at: int, depth: int) -> tuple[Items, int]:
    head = raw[at]
    at += 1
    kind, count = head & 15, head >> 4
    if count == 15:
        count, at = _unsigned(raw, at)
    if count > len(raw) - at:
        raise Damaged("its footer holds a list longer than itself")
    items: list[Any] = []
    if kind in (TRUE, FALSE):
        return Items(kind, [one == 1 for one in raw[at : at + count]]), at + count
    for _ in range(count):
        item, at = _value(raw, at, kind, depth + 1)
        items.append(item)
    return Items(kind, items), at


def _taken(raw: Raw, at: int, size: int) -> bytes:
    if size > len(raw) - at:
        raise Damaged("its footer ends early")
    return bytes(raw[at : at + size])


def _unsigned(raw: Raw, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise Damaged("its footer holds a number beyond 64 bits")


def numbers(raw: Raw, at: int = 0) -> tuple[dict[int, int], int]:
    r"""The integers of a struct by field, and where it ends; the rest is passed over unmade.

    Args:
        raw: The bytes.
        at: Where the struct begins.

    Returns:
        The values of its own integer fields, and the place behind it.

    Raises:
        Damaged: As `Compact.struct` does.
        IndexError: It ends with the bytes.

    Example:
        >>> numbers(b"\x15\n\x18\x01a\x00rest")
        ({1: 5}, 6)
    """
    found: dict[int, int] = {}
    last = 0
    while head := raw[at]:
        kind = head & 15
        last, at = _field(raw, at, last)
        if kind in NUMBERS:
            number, at = _unsigned(raw, at)
            found[last] = (number >> 1) ^ -(number & 1)
        else:
            at = _passed(raw, at, kind, 0)
    return found, at + 1


def with_number(raw: bytes, number: int, value: int) -> bytes:
    r"""The bytes of a struct in which a 32-bit field is set; all others stay as they are written.

    Args:
        raw: The struct in compact protocol.
        number: The field, 1 to 15 after the one before it.
        value: Its value.

    Returns:
        The bytes of the changed struct.

    Example:
        >>> numbers(with_number(b"\x15\n\x35\x02\x00", 2, -7))[0]
        {1: 5, 2: -7, 4: 1}
    """
    at = last = 0
    while raw[at]:
        following, behind = _field(raw, at, last)
        if following >= number:
            break
        last, at = following, _passed(raw, behind, raw[at] & 15, 0)
    out = bytearray(raw[:at])
    out.append((number - last) << 4 | I32)
    _write_signed(out, value)
    if raw[at] and following == number:
        return bytes(out) + raw[_passed(raw, behind, raw[at] & 15, 0) :]
    if raw[at] > 15:  # the next field tells its number as a step from the one before it
        out.append(raw[at] - ((number - last) << 4))
        at += 1
    return bytes(out) + raw[at:]


def _field(raw: Raw, at: int, last: int) -> tuple[int, int]:
    """The number of the field that begins here, and where its value begins."""
    head = raw[at]
    if head > 15:
        return last + (head >> 4), at + 1
    number, at = _unsigned(raw, at + 1)
    return (number >> 1) ^ -(number & 1), at


def _passed(raw: Raw, at: int, kind: int, depth: int) -> int:
    """The place behind a value."""
    if kind in NUMBERS:
        while raw[at] > 127:
            at += 1
        return at + 1
    if kind == STRUCT and depth < MAX_DEPTH:
        last = 0
        while head := raw[at]:
            last, at = _field(raw, at, last)
            at = _passed(raw, at, head & 15, depth + 1)
        return at + 1
    if kind == BINARY:
        size, at = _unsigned(raw, at)
        if size > len(raw) - at:
            raise Damaged("its footer ends early")
        return at + size
    if kind in (TRUE, FALSE):
        return at
    return _value(raw, at, kind, depth)[1]


def written(struct: Struct) -> bytes:
    r"""A struct in compact protocol.

    Args:
        struct: What was read or made; bytes of a struct may stand in it for that struct.

    Returns:
        Its bytes.

    Example:
        >>> raw = b"\x15\n\x19\x25\x02\x04\x00"
        >>> written(Compact(raw).struct()) == raw
        True
    """
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    types = struct.types
    for number, value in sorted(struct.items()):
        kind = types[number]
        if kind <= FALSE:
            kind = TRUE if value else FALSE
        if 0 < number - last < 16:
            out.append((number - last) << 4 | kind)
        else:
            out.append(kind)
            _write_signed(out, number)
        last = number
        if kind in NUMBERS and 0 <= value < 64:
            out.append(value << 1)
        elif kind > FALSE:
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in NUMBERS:
        _write_signed(out, value)
    elif kind == BINARY:
        _write_unsigned(out, len(value))
        out += value
    elif kind in (BYTE, DOUBLE) or isinstance(value, bytes):
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    else:
        _write_list(out, value)


def _write_list(out: bytearray, items: Items) -> None:
    if len(items) < 15:
        out.append(len(items) << 4 | items.kind)
    else:
        out.append(0xF0 | items.kind)
        _write_unsigned(out, len(items))
    for item in items:
        if items.kind in (TRUE, FALSE):
            out.append(1 if item else 2)
        else:
            _write_value(out, items.kind, item)


def _write_unsigned(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _write_signed(out: bytearray, value: int) -> None:
    _write_unsigned(out, value << 1 if value >= 0 else (-value << 1) - 1)
