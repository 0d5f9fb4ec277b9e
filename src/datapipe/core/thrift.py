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

    def struct(self, depth: int = 0) -> Struct:
        r"""The struct that begins here.

        Args:
            depth: How many structs are around it.

        Returns:
            The struct; `at` stands behind it.

        Raises:
            Damaged: It ends early, is nested too deep, or holds what Parquet never holds.

        Example:
            >>> Compact(b"\x00").struct()
            {}
        """
        if depth > MAX_DEPTH:
            raise Damaged("its footer is nested too deep")
        fields = Struct()
        last = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            last = last + step if step else self._signed()
            fields[last] = self._value(kind, depth)
            fields.types[last] = kind
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (I32, I64, I16):
            return self._signed()
        if kind == BINARY:
            return self._take(self._unsigned())
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (LIST, SET):
            return self._list(depth)
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in (BYTE, DOUBLE):
            return self._take(1 if kind == BYTE else 8)
        raise Damaged(f"its footer holds a value of the unknown type {kind}")

    def _list(self, depth: int) -> Items:
        head = self._byte()
        kind, count = head & 15, head >> 4
        count = self._unsigned() if count == 15 else count
        if count > len(self.raw) - self.at:
            raise Damaged("its footer holds a list longer than itself")
        if kind in (TRUE, FALSE):
            return Items(kind, [self._byte() == 1 for _ in range(count)])
        return Items(kind, [self._value(kind, depth + 1) for _ in range(count)])

    def _take(self, size: int) -> bytes:
        if size > len(self.raw) - self.at:
            raise Damaged("its footer ends early")
        self.at += size
        return bytes(self.raw[self.at - size : self.at])

    def _byte(self) -> int:
        self.at += 1
        return self.raw[self.at - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise Damaged("its footer holds a number beyond 64 bits")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def written(struct: Struct) -> bytes:
    r"""A struct in compact protocol.

    Args:
        struct: What was read or made.

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
    for number in sorted(struct):
        value, kind = struct[number], struct.types[number]
        if kind in (TRUE, FALSE):
            kind = TRUE if value else FALSE
        if 0 < number - last < 16:
            out.append((number - last) << 4 | kind)
        else:
            out.append(kind)
            _write_signed(out, number)
        last = number
        if kind not in (TRUE, FALSE):
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in (I16, I32, I64):
        _write_signed(out, value)
    elif kind == BINARY:
        _write_unsigned(out, len(value))
        out += value
    elif kind in (BYTE, DOUBLE):
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
