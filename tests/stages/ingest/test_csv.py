# SPDX-License-Identifier: Apache-2.0
"""ReadCSV: one pinned dialect, read without loss or refused with the row."""

from __future__ import annotations

import csv
import io
import math
import os

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.core.context import Context
from datapipe.core.dataset import empty
from datapipe.errors import DeclarationError, LimitExceeded, Malformed, SchemaMismatch
from datapipe.stages import ReadCSV
from datapipe.stages.ingest import _dialect


def read(path, raw, **options):
    path.write_bytes(raw)
    return ReadCSV(path, **options).run(empty(), Context(0, path.parent / "scratch"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.csv"


@pytest.mark.parametrize(
    ("raw", "rows"),
    [
        (b"a,b\n1,2\n", [(1, 2)]),
        (b"a,b\r\n1,2\n3,4\r\n", [(1, 2), (3, 4)]),
        (b"a,b\n1,2", [(1, 2)]),
        (b"a,b\n1,2\n\n\r\n", [(1, 2)]),
        (b"\xef\xbb\xbfa,b\n1,2\n", [(1, 2)]),
        (b'a,b\n1,"x\r\n,""y"""\n', [(1, 'x\r\n,"y"')]),
        (b"a,b\n007,x\n12,y\n", [("007", "x"), ("12", "y")]),
        (b"a,b\n9007199254740993,1\n", [(9007199254740993, 1)]),
        (b"a,b\n9007199254740993,1\n1.5,2\n", [("9007199254740993", 1), ("1.5", 2)]),
        (b"a,b\n1e400,1\n2,2\n", [("1e400", 1), ("2", 2)]),
        (b"a,b\n1e-400,1\n2,2\n", [("1e-400", 1), ("2", 2)]),
        (b"a,b\n99999999999999999999,1\n", [("99999999999999999999", 1)]),
        (b"a,b\n1,true\n,false\n", [(1, True), (None, False)]),
        (b"a,b\nTrue,true\nfalse,x\n", [("True", "true"), ("false", "x")]),
        (b"a,b\n1,NA\n2,null\n", [(1, "NA"), (2, "null")]),
        (b'a,b\n1,""\n2,\n3,x\n', [(1, ""), (2, None), (3, "x")]),
        (b"a,\n1,2\n", [(1, 2)]),
        (b"a,b\n+49151234, 2\n", [("+49151234", " 2")]),
        (b"a,b\n=HYPERLINK(1),@x\n", [("=HYPERLINK(1)", "@x")]),
        (b"a,b\n2020-01-01,1_000\n", [("2020-01-01", "1_000")]),
        (b'"a,x","b\nc"\n1,2\n', [(1, 2)]),
    ],
)
def test_readings_are_lossless(path, raw, rows):
    assert read(path, raw).data.frame().rows() == rows


def test_nan_is_a_float_among_numbers(path):
    made = read(path, b"a\n1.5\nNaN\n")
    one, other = made.data.frame()["a"].to_list()
    assert one == 1.5
    assert math.isnan(other)


@pytest.mark.parametrize(
    ("raw", "where", "what"),
    [
        (b"a,b\n1,2\n3\n", ":3:", "1 field where the header has 2"),
        (b"a,b\n1,2\n3,4,5\n", ":3:", "3 fields"),
        (b"a,b\n1,2\n\n3,4\n", ":3:", "blank line"),
        (b"a\n1\n\n3\n", ":3:", "blank line"),
        (b'a,b\n1,"2\n3,4\n', ":2:", "never closed"),
        (b'a,b\n1,2\n3,"x\n5,"y"\n', ":3:", "quote is out of place"),
        (b'a,b\n1,2"x\n', ":2:", "quote is out of place"),
        (b"a,b\n1,2\n3,\x00\n", ":3:", "NUL"),
        (b"a,b\n1,2\n3,\xe9\n", ":3:", "not UTF-8"),
        (b'a,b\n"1\n2",x\n3,\xe9\n', ":4:", "row 2"),
        (b"a,b\r1,2\r", ":1:", "carriage return"),
        (b"a,b\n1,2\r\r\n", ":2:", "carriage return"),
        (b"a,a\n1,2\n", ":1:", "'a' occurs twice"),
        (b"a;b\n1;2\n", ":1:", "parted by ';'"),
        (b"\n1,2\n", ":1:", "blank"),
        (b"a,\xff\n1,2\n", ":1:", "not UTF-8"),
        (b"\xff\xfea\x00,\x00b\x00\n\x00", "", "UTF-16"),
        (b"\xfe\xff\x00a\x00,", "", "UTF-16"),
        (b"a,b\n", "", "no rows"),
        (b"\xef\xbb\xbf", "", "blank"),
        (b"\x1f\x8b\x08\x00", "", "gzip"),
        (b"\x80\x04\x95\x10", "", "pickle"),
        (b"PK\x03\x04", "", "zip"),
    ],
)
def test_what_cannot_be_read_without_guessing_is_refused(path, raw, where, what):
    with pytest.raises(Malformed, match=what) as told:
        read(path, raw)
    assert f"{path}{where}" in told.value.message
    assert told.value.exit_code == 7


def test_broken_records_are_set_aside_with_their_reason(path):
    raw = b"a,b\n1,2\n3\n5,6\n\n7,8,9\n1,\x00\n1,\xe9\n9,9\n\n"
    made = read(path, raw, on_error="quarantine")
    assert made.data.frame(row_id=True).rows() == [(0, 1, 2), (2, 5, 6), (7, 9, 9)]
    assert made.set_aside["row_id"].to_list() == [1, 3, 4, 5, 6]
    assert "a.csv:3: 1 field" in made.set_aside["reason"][0]
    (finding,) = made.findings
    assert (finding.kind, finding.verdict) == ("ingest.malformed", "suspect")
    assert (finding.measure.value, finding.measure.n) == (5 / 8, 8)
    assert made.data.sources[0].rows == 8


def test_a_clean_file_says_so(path):
    (finding,) = read(path, b"a\n1\n").findings
    assert finding.verdict == "clean"
    assert finding.measure.value == 0


def test_a_quote_out_of_place_cannot_be_set_aside(path):
    with pytest.raises(Malformed, match="quote"):
        read(path, b'a,b\n1,2"x\n3,4\n', on_error="quarantine")


def test_ordinals_run_over_files_and_broken_records(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"v\n1\n1,1\n2\n")
    (tmp_path / "b.csv").write_bytes(b"v\n3,3\n4\n")
    made = ReadCSV(tmp_path / "?.csv", on_error="quarantine").run(
        empty(), Context(0, tmp_path / "scratch")
    )
    assert made.data.frame(row_id=True).rows() == [(0, 1), (2, 2), (4, 4)]
    assert made.set_aside["row_id"].to_list() == [1, 3]


def test_headers_must_agree(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"v,w\n1,2\n")
    (tmp_path / "b.csv").write_bytes(b"w,v\n1,2\n")
    with pytest.raises(SchemaMismatch, match="header differs"):
        ReadCSV(tmp_path / "?.csv").run(empty(), Context(0, tmp_path))


def test_a_record_without_end_is_refused_in_small_memory(path):
    with pytest.raises(LimitExceeded, match=":2:"):
        read(path, b"a\n" + b"x" * 3_000_000 + b"\n", max_record_bytes=1 << 20)
    with pytest.raises(LimitExceeded, match=":2:"):
        read(path, b'a\n"' + b"x\n" * 9_000_000, max_record_bytes=1 << 20)


def test_separators(path):
    assert read(path, b"a;b\n1;2,5\n", separator=";").data.frame().rows() == [(1, "2,5")]
    tab = path.with_suffix(".tsv")
    assert read(tab, b"a\tb\n1\t2\n").data.frame().rows() == [(1, 2)]
    for bad in (";;", '"', "\n", "é"):
        assert ReadCSV(path, separator=bad).check()


def test_types_rest_on_every_row_not_on_a_sample(path):
    body = b"".join(b"%d,%d.5\n" % (i, i) for i in range(5000))
    made = read(path, b"a,b\n" + body + b"007,x\n")
    assert made.data.types == {"a": pl.String, "b": pl.String}
    made = read(path, b"a,b\n" + body)
    assert made.data.types == {"a": pl.Int64, "b": pl.Float64}


def test_records_may_straddle_the_windows(path, monkeypatch):
    rows = [[str(i), f'text "{i}"\nmore, and é' * (i % 5)] for i in range(500)]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["id", "t"], *rows])
    for size in (7, 64, 1000):
        monkeypatch.setattr(_dialect, "WINDOW_BYTES", size)
        made = read(path, text.getvalue().encode())
        assert made.data.frame()["t"].fill_null("").to_list() == [r[1] for r in rows]


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=12), crlf=st.booleans())
def test_polars_duckdb_and_the_csv_module_agree_on_what_we_accept(tmp_path_factory, rows, crlf):
    folder = tmp_path_factory.mktemp("law")
    text = io.StringIO(newline="")
    end = "\r\n" if crlf else "\n"
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=end).writerows([("a", "b"), *rows])
    made = read(folder / "a.csv", text.getvalue().encode())
    ours = made.data.frame().with_columns(pl.all().cast(pl.String).fill_null(""))
    if made.data.types == {"a": pl.String, "b": pl.String}:
        assert ours.rows() == rows
    (counted,) = duckdb.sql(
        f"select count(*) from read_csv('{folder}/a.csv', header=true, all_varchar=true,"
        " quote='\"', escape='\"', delim=',', strict_mode=false, auto_detect=false,"
        " columns={'a': 'VARCHAR', 'b': 'VARCHAR'})"
    ).fetchall()
    assert counted == (len(rows),)


@settings(max_examples=40, deadline=None)
@given(raw=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("fuzz") / "a.csv"
    try:
        made = read(path, raw, on_error="quarantine")
    except (Malformed, LimitExceeded, SchemaMismatch):
        return
    except DeclarationError:
        pytest.fail("a file that is there is no declaration error")
    gone = made.set_aside.height if made.set_aside is not None else 0
    assert made.data.frame().height + gone == made.data.sources[0].rows


def test_a_file_whose_name_is_not_utf8_is_refused_by_name_and_by_glob(tmp_path):
    file = tmp_path / os.fsdecode(b"bad\xff.csv")
    file.write_text("a\n1\n")
    for path in (file, tmp_path / "*.csv"):
        with pytest.raises(DeclarationError, match=r"bad\\xff\.csv' is not UTF-8"):
            ReadCSV(path).run(empty(), Context(0, tmp_path / "scratch"))
    (told,) = ReadCSV(file).check()
    assert told.endswith("nothing could name it")


def test_what_would_allow_a_remote_address_is_told():
    (told,) = ReadCSV("s3://bucket/a.csv").check()
    assert told.endswith("nothing is fetched from a network unless DATAPIPE_REMOTE=s3")
    (told,) = ReadCSV("https://host/a.csv").check()
    assert told.endswith("nothing is fetched from a network")
