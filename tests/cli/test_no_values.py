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
