# SPDX-License-Identifier: Apache-2.0
"""JSON that is read without guessing and written in one way only.

Writing follows RFC 8785 (JCS), so that equal statements are equal bytes. Reading refuses what two
parsers may understand differently: duplicate keys, NaN, numbers out of range, half surrogate
pairs, and what is only there to exhaust a parser.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Reason

LARGEST_PAYLOAD_BYTES = 64 * 1024 * 1024
DEEPEST_NESTING = 64
LARGEST_INTEGER = 2**53 - 1

quoted: Callable[[str], str] = json.encoder.encode_basestring
"""A text as JSON: only what must be escaped is."""


def canonical_json(value: Any) -> bytes:
    """Write a JSON value in the one form that RFC 8785 allows.

    Args:
        value: None, bool, int (at most 2**53 - 1 in size), finite float, str, list or tuple of
            these, or a mapping from str to these.

    Returns:
        UTF-8 bytes: keys in UTF-16 order, no spaces, numbers as ECMAScript prints them.

    Raises:
        DeclarationError: The value has no canonical form: NaN, an infinity, an integer that a
            double cannot hold, a key that is not text, half a surrogate pair, another type, or
            nesting that no reader here accepts.

    Example:
        >>> canonical_json({"b": 1.0, "a": [1e21, 0.5, "é"]}).decode()
        '{"a":[1e+21,0.5,"é"],"b":1}'

    References:
        Rundgren, Jordan, Erdtman, 2020, RFC 8785: JSON Canonicalization Scheme.
    """
    parts: list[str] = []
    _write(value, parts.append, 0)
    try:
        return "".join(parts).encode()
    except UnicodeEncodeError as error:
        raise _no_form("half a surrogate pair in a text") from error


def parse_json(payload: bytes, *, largest_bytes: int = LARGEST_PAYLOAD_BYTES) -> Any:
    """Read JSON that somebody else wrote, refusing whatever is ambiguous or oversized.

    Args:
        payload: UTF-8 bytes without a byte order mark.
        largest_bytes: The most bytes to look at.

    Returns:
        The value, made of dict, list, str, int, float, bool and None.

    Raises:
        TrustError: The payload is too large, too deep, not UTF-8 JSON, holds a key twice, a
            number outside the range of a double, or half a surrogate pair.

    Example:
        >>> parse_json(b'{"a": 1}')
        {'a': 1}
        >>> parse_json(b'{"a": 1, "a": 2}')
        Traceback (most recent call last):
        ...
        datapipe.errors.TrustError: the key 'a' stands twice in one JSON object [DP-TRUST-301]
        <BLANKLINE>
        hint: ask the author for a file written by a strict JSON writer
    """
    if len(payload) > largest_bytes:
        raise _unreadable(
            f"{len(payload)} bytes of JSON, {largest_bytes} allowed", Reason.TOO_LARGE
        )
    try:
        value = json.loads(
            payload.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_integer,
        )
        if b"\\u" in payload:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise _unreadable("JSON nested too deeply to read", Reason.TOO_DEEP) from error
    except (UnicodeError, json.JSONDecodeError) as error:
        raise _unreadable(f"not UTF-8 JSON: {error}", Reason.NOT_JSON) from error
    _refuse_deep(value)
    return value


def _write(value: Any, out: Callable[[str], None], depth: int) -> None:
    if isinstance(value, str):
        out(quoted(value))
    elif value is None or value is True or value is False:
        out("null" if value is None else "true" if value else "false")
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise _no_form(f"the integer {value} does not fit a double; write it as text")
        out(str(int(value)))
    elif isinstance(value, float):
        out(_ecmascript(value))
    elif depth > DEEPEST_NESTING:
        raise _no_form(f"nested deeper than {DEEPEST_NESTING} levels")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            out("," if index else "[")
            _write(item, out, depth + 1)
        out("]" if value else "[]")
    elif isinstance(value, dict):
        _write_object(value, out, depth)
    else:
        raise _no_form(f"{type(value).__name__} is not a JSON type")


def _write_object(value: dict[Any, Any], out: Callable[[str], None], depth: int) -> None:
    for key in value:
        if not isinstance(key, str):
            raise _no_form(f"the key {key!r} is not text")
    before = "{"
    for key in sorted(value, key=_utf16):
        out(before)
        out(quoted(key))
        out(":")
        _write(value[key], out, depth + 1)
        before = ","
    out("}" if value else "{}")


def _utf16(key: str) -> bytes:
    """RFC 8785 sorts by UTF-16 code units, which differs from code points above U+FFFF."""
    return key.encode("utf-16-be", "surrogatepass")


def _ecmascript(value: float) -> str:
    if not math.isfinite(value):
        raise _no_form(f"{value} is not a JSON number")
    if value == 0:
        return "0"
    from decimal import Decimal  # noqa: PLC0415  # most statements hold no fraction

    sign, digits, exponent = Decimal(float.__repr__(value)).as_tuple()
    text = "".join(map(str, digits))
    point = len(text) + int(exponent)
    text = text.rstrip("0").lstrip("0")
    minus, size = "-" if sign else "", len(text)
    if size <= point <= 21:
        return minus + text + "0" * (point - size)
    if 0 < point <= 21:
        return f"{minus}{text[:point]}.{text[point:]}"
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    tail = f".{text[1:]}" if size > 1 else ""
    return f"{minus}{text[0]}{tail}e{point - 1:+d}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _unreadable(
            f"the key {twice!r} stands twice in one JSON object", Reason.DUPLICATE_JSON_KEY
        )
    return found


def _constant(text: str) -> Any:
    raise _unreadable(f"{text} is not a JSON number", Reason.BAD_NUMBER)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _unreadable("a number is larger than a double holds", Reason.BAD_NUMBER)
    return value


def _integer(text: str) -> int | float:
    """Beyond 2**53 only what the writer prints for some double is read, as that double."""
    short = len(text) <= 24
    if short and abs(int(text)) <= LARGEST_INTEGER:
        return int(text)
    if short and _ecmascript(float(text)) == text:
        return float(text)
    raise _unreadable("a whole number that a double cannot hold", Reason.BAD_NUMBER)


def _refuse_deep(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST_NESTING + 1):
        level = [
            inner
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise _unreadable(f"JSON nested deeper than {DEEPEST_NESTING} levels", Reason.TOO_DEEP)


def _no_form(what: str) -> DeclarationError:
    return DeclarationError(
        f"no canonical JSON: {what}",
        code="DP-DECL-030",
        hint="keep to text, finite numbers, lists and mappings with text keys",
    )


def _unreadable(what: str, reason: Reason) -> TrustError:
    return TrustError(
        what, code=reason.value, hint="ask the author for a file written by a strict JSON writer"
    )
