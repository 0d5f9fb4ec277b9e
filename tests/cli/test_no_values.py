# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a stage is told without the cells that it went wrong on."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from datapipe import Pipeline, stage
from datapipe.errors import DatapipeError, in_a_line

PERSON = "zoe.quist@example.org"
ROWS = pl.DataFrame({"mail": [PERSON, "x"], "phone": [5551234567, 2]})
MAIL, PHONE = pl.col("mail"), pl.col("phone")
TAUGHT = {
    "a strict cast": lambda rows: rows.with_columns(MAIL.cast(pl.Int64)),
    "a number too large": lambda rows: rows.with_columns(PHONE.cast(pl.Int8)),
    "a date": lambda rows: rows.with_columns(MAIL.str.to_date("%Y")),
    "an integer": lambda rows: rows.with_columns(MAIL.str.to_integer()),
    "a category": lambda rows: rows.with_columns(MAIL.cast(pl.Enum(["a"]))),
    "a number of Python": lambda rows: float(rows.collect()["mail"][0]),
    "a key": lambda rows: {}[rows.collect()["mail"][0]],
    "a cast of Arrow": lambda rows: pc.cast(rows.collect()["mail"].to_arrow(), pa.int64()),
}


@pytest.mark.parametrize("what", TAUGHT)
def test_a_stage_that_fails_on_a_value_does_not_print_it(what, tmp_path):
    with pytest.raises(DatapipeError) as caught:
        Pipeline("p", [stage("user.step")(TAUGHT[what])()]).run(ROWS, seed=1, store=tmp_path / "s")
    told = str(caught.value)
    assert "user.step" in told
    assert "zoe" not in told
    assert "5551234567" not in told


AUTHORS = """
import polars as pl

def plain(rows):
    for mail in rows.collect()["mail"]:
        raise ValueError(f"cannot do {mail} of column mail in batch 12")

def number(rows):
    phone = rows.collect()["phone"][0]
    assert phone < 10, f"phone {phone} is too long, 10 expected"
    return rows

def deeper(rows):
    return plain(rows)

def chained(rows):
    try:
        return plain(rows)
    except ValueError as error:
        raise RuntimeError("no luck with " + str(error)) from error

def whole_row(rows):
    raise KeyError(rows.collect().row(0))

def by_element(rows):
    return rows.with_columns(pl.col("mail").map_elements(_element, return_dtype=pl.String))

def _element(mail):
    raise ValueError("cannot do " + mail)
"""
SAID = {
    "plain": "ValueError: cannot do … of column mail in batch 12",
    "number": "AssertionError: phone … is too long, 10 expected",
    "deeper": "ValueError: cannot do … of column mail in batch 12",
    "chained": "RuntimeError: no luck with cannot do … of column mail in batch 12",
    "whole_row": "KeyError: ",
    "by_element": "cannot do …",
}


@pytest.mark.parametrize("how", ["a module", "no file"])
@pytest.mark.parametrize("name", SAID)
def test_what_an_author_puts_between_their_words_is_not_printed(name, how, tmp_path):
    module: dict = {"__name__": "authors"}
    file = tmp_path / "authors.py"
    if how == "a module":
        file.write_text(AUTHORS)
    exec(compile(AUTHORS, str(file), "exec"), module)
    with pytest.raises(DatapipeError) as caught:
        Pipeline("p", [stage("user.step")(module[name])()]).run(ROWS, seed=1, store=tmp_path / "s")
    told = str(caught.value)
    assert SAID[name] in told or how == "no file"
    assert "user.step" in told
    for part in ("zoe", "quist", "example", "5551234567"):
        assert part not in told


def test_names_of_columns_and_types_are_told():
    with pytest.raises(pl.exceptions.PolarsError) as caught:
        ROWS.with_columns(MAIL.cast(pl.Int64))
    told = in_a_line(caught.value, ROWS.columns)
    assert "from `str` to `i64` failed in column 'mail'" in told
    with pytest.raises(pl.exceptions.PolarsError) as caught:
        ROWS.select("male")
    assert 'unable to find column "male"' in in_a_line(caught.value)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("it doesn't fit, isn't it", "it doesn't fit, isn't it"),
        ("got 'a\nb' here", "got '…'"),
        ("could not parse `ann` as dtype `i64`", "could not parse `…` as dtype `i64`"),
        ("", "ValueError"),
        ("x" * 400, "x" * 300),
    ],
)
def test_a_message_of_another_library_becomes_a_line(message, told):
    assert in_a_line(ValueError(message)) == told
