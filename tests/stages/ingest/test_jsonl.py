# SPDX-License-Identifier: Apache-2.0
"""ReadJSONL: every line parsed strictly, broken ones named or set aside."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.core.context import Context
from datapipe.core.dataset import empty
from datapipe.errors import LimitExceeded, Malformed, SchemaMismatch
from datapipe.stages import ReadJSONL


def read(path, raw, **options):
    path.write_bytes(raw)
    return ReadJSONL(path, **options).run(empty(), Context(0, path.parent / "scratch"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.jsonl"


@pytest.mark.parametrize(
    ("raw", "rows"),
    [
        (b'{"a":1}\n{"a":2.5}\n\n\n', [(1.0,), (2.5,)]),
        (b'{"a":1}\r\n{"b":"x"}', [(1, None), (None, "x")]),
        (b'\xef\xbb\xbf{"a":1}\n', [(1,)]),
        (b'{"a":9007199254740993}\n', [(9007199254740993,)]),
        (b'{"a":-9223372036854775808}\n', [(-(2**63),)]),
        (b'{"a":"007"}\n{"a":null}\n', [("007",), (None,)]),
        (b'{"a":"2020-01-01"}\n', [("2020-01-01",)]),
        (b'{"a":"\\ud83d\\ude00 \\u0000"}\n', [("\U0001f600 \0",)]),
        (b'{"a":[1,2.5,null]}\n{"a":[]}\n', [([1.0, 2.5, None],), ([],)]),
        (b'{"a":{"b":{"c":true}}}\n{"a":null}\n', [({"b": {"c": True}},), (None,)]),
        (b'{"a":null}\n', [(None,)]),
        (b'{"a":"' + b"[{" * 100 + b'"}\n', [("[{" * 100,)]),
    ],
)
def test_readings_are_lossless(path, raw, rows):
    assert read(path, raw).data.frame().rows() == rows


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"a":', "not JSON at column"),
        (b'{"a":1} x', "not JSON"),
        (b'{"a":1,"a":2}', "a key occurs twice"),
        (b'{"a":2,"b":{"c":1,"c":1}}', "a key occurs twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1e400}', "too large"),
        (b'{"a":18446744073709551616}', "beyond 64 bits"),
        (b'{"a":' + b"1" * 5000 + b"}", "digits"),
        (b'{"a":"x"}', "both numbers and texts"),
        (b'{"a":true}', "both booleans and numbers"),
        (b'{"a":9007199254740993.5}', None),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":\x001}', "not JSON"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper than 32"),
        (b"[1]", "not an object"),
        (b"3", "not an object"),
        (b"", "a blank line"),
    ],
)
def test_a_broken_line_is_named_or_set_aside(path, line, what):
    raw = b'{"a":1}\n{"a":2}\n' + line + b'\n{"a":4}\n'
    if what is None:
        assert read(path, raw).data.frame()["a"].dtype == pl.Float64
        return
    with pytest.raises(Malformed, match=what) as told:
        read(path, raw)
    assert f"{path}:3:" in told.value.message
    assert "row 3" in told.value.message
    assert told.value.exit_code == 7
    made = read(path, raw, on_error="quarantine")
    assert made.data.frame(["a"], row_id=True).rows() == [(0, 1), (1, 2), (3, 4)]
    assert made.set_aside["row_id"].to_list() == [2]
    assert what in made.set_aside["reason"][0]
    assert made.findings[0].measure.value == 1 / 4


def test_integers_that_would_be_rounded_among_decimals_are_refused(path):
    with pytest.raises(Malformed, match="rounded"):
        read(path, b'{"a":9007199254740993}\n{"a":1.5}\n')


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"\n\n", "no rows"), (b"{}\n", "no rows"), (b'[{"a":1}]\n', "JSON array"),
        (b"\xff\xfe{\x00", "UTF-16"), (b"\x1f\x8b", "gzip"), (b"\x80\x04", "pickle"),
    ],
)  # fmt: skip
def test_what_is_no_json_lines_file_is_refused(path, raw, what):
    with pytest.raises(Malformed, match=what):
        read(path, raw)


def test_the_reserved_column_is_refused(path):
    with pytest.raises(SchemaMismatch, match="_row_id"):
        read(path, b'{"_row_id":1}\n')


def test_limits(path):
    with pytest.raises(LimitExceeded, match=":1:"):
        read(path, b'{"a":"' + b"x" * 2000 + b'"}\n', max_record_bytes=1000)
    many = b"".join(b'{"k%d":1}\n' % i for i in range(10_050))
    with pytest.raises(Malformed, match="different keys"):
        read(path, many)
    assert ReadJSONL("a", max_depth=65).check()
    assert ReadJSONL("a", on_error="skip").check()


def test_types_and_rows_run_over_files(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"v":1}\n{"v":\n{"v":2}\n')
    (tmp_path / "b.jsonl").write_bytes(b'{"v":2.5,"w":"x"}\n')
    made = ReadJSONL(tmp_path / "*.jsonl", on_error="quarantine").run(
        empty(), Context(0, tmp_path / "scratch")
    )
    assert made.data.frame(row_id=True).rows() == [(0, 1.0, None), (2, 2.0, None), (3, 2.5, "x")]


def test_names_that_look_like_globs_are_read_as_names(tmp_path):
    path = tmp_path / "part[1].jsonl"
    assert read(path, b'{"a":1}\n').data.frame().rows() == [(1,)]


VALUE = {
    "i": st.none() | st.integers(-(2**63), 2**63 - 1),
    "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "s": st.none() | st.text(st.characters(codec="utf-8")),
    "l": st.none() | st.lists(st.integers(0, 9), max_size=3),
    "o": st.none() | st.fixed_dictionaries({"k": st.none() | st.booleans()}),
}


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries(VALUE), min_size=1, max_size=10), ascii_=st.booleans())
def test_the_engine_reads_what_python_reads(tmp_path_factory, rows, ascii_):
    path = tmp_path_factory.mktemp("law") / "a.jsonl"
    text = "\n".join(json.dumps(r, ensure_ascii=ascii_) for r in rows)
    made = read(path, text.encode()).data.frame()
    for name in "ifsl":
        assert made[name].to_list() == [r[name] for r in rows]
    assert [r["o"] for r in made.to_dicts()] == [
        o if not isinstance(o := row["o"], dict) or made.schema["o"] != pl.String else None
        for row in rows
    ]


@settings(max_examples=40, deadline=None)
@given(raw=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("fuzz") / "a.jsonl"
    try:
        made = read(path, b'{"a":1}\n' + raw, on_error="quarantine")
    except (Malformed, SchemaMismatch):
        return
    gone = made.set_aside.height if made.set_aside is not None else 0
    assert made.data.frame().height + gone == made.data.sources[0].rows
