# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON: one writing for each value, and a reader that refuses what is ambiguous."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.canonical import canonical_json, parse_json
from datapipe.manifest.checks import Reason

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBER = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)

# RFC 8785, appendix B: the bits of a double and what ECMAScript prints.
NUMBERS = [
    (0.0, "0"),
    (-0.0, "0"),
    (5e-324, "5e-324"),
    (-5e-324, "-5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (9007199254740992.0, "9007199254740992"),
    (-9007199254740992.0, "-9007199254740992"),
    (295147905179352830000.0, "295147905179352830000"),
    (9.999999999999997e22, "9.999999999999997e+22"),
    (1e23, "1e+23"),
    (1.0000000000000001e23, "1.0000000000000001e+23"),
    (999999999999999700000.0, "999999999999999700000"),
    (999999999999999900000.0, "999999999999999900000"),
    (1e21, "1e+21"),
    (9.999999999999997e-7, "9.999999999999997e-7"),
    (0.000001, "0.000001"),
    (333333333.3333332, "333333333.3333332"),
    (-0.0000033333333333333333, "-0.0000033333333333333333"),
    (1424953923781206.2, "1424953923781206.2"),
]


@pytest.mark.parametrize(("number", "text"), NUMBERS)
def test_numbers_are_written_as_the_rfc_says(number, text):
    assert canonical_json(number).decode() == text


def test_the_example_of_the_rfc():
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"\u002f",
        "literals": [None, True, False],
    }
    assert canonical_json(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_utf16_units():
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    written = json.loads(canonical_json(dict.fromkeys(keys, 0)))
    assert list(written) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@given(VALUE)
def test_reading_undoes_writing(value):
    written = canonical_json(value)
    assert parse_json(written) == value
    assert canonical_json(parse_json(written)) == written


@given(st.dictionaries(TEXT, NUMBER, max_size=6))
def test_order_of_keys_does_not_matter(value):
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def nested(levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_what_is_written_is_never_too_deep_to_read():
    assert parse_json(canonical_json(nested(60))) == nested(60)
    for levels in range(60, 72):
        try:
            written = canonical_json({"a": nested(levels)})
        except DeclarationError:
            continue
        parse_json(written)
    with pytest.raises(DeclarationError):
        canonical_json(nested(5000))


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 2**53, {1: 2}, {"a": {3}}, "\ud800", b"bytes", {"\ud800": 1}]
)
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(DeclarationError):
        canonical_json(value)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"a":1,"a":1}', Reason.DUPLICATE_JSON_KEY),
        (b'[{"b":{"a":1,"\\u0061":2}}]', Reason.DUPLICATE_JSON_KEY),
        (b"[NaN]", Reason.BAD_NUMBER),
        (b"[-Infinity]", Reason.BAD_NUMBER),
        (b"[1e999]", Reason.BAD_NUMBER),
        (b"[9007199254740993]", Reason.BAD_NUMBER),
        (b"[" + b"9" * 5000 + b"]", Reason.BAD_NUMBER),
        (b"[" * 70 + b"]" * 70, Reason.TOO_DEEP),
        (b"[" * 100_000, Reason.TOO_DEEP),
        (b'{"a":' * 100_000, Reason.TOO_DEEP),
        (b'"\\ud800"', Reason.NOT_JSON),
        (b"\xef\xbb\xbf{}", Reason.NOT_JSON),
        (b'{"a":"\xff"}', Reason.NOT_JSON),
        (b"{} {}", Reason.NOT_JSON),
        (b"", Reason.NOT_JSON),
        (b"{'a':1}", Reason.NOT_JSON),
    ],
)
def test_what_parsers_read_differently_is_refused(payload, reason):
    with pytest.raises(TrustError) as caught:
        parse_json(payload)
    assert caught.value.code == reason


def test_size_is_looked_at_first():
    with pytest.raises(TrustError) as caught:
        parse_json(b"[" * 1000, largest_bytes=999)
    assert caught.value.code == Reason.TOO_LARGE


def outcome(payload):
    try:
        parse_json(payload)
    except TrustError as error:
        return error.code
    return None


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(payload):
    assert outcome(payload) in {None, *Reason}
