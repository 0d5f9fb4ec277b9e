# SPDX-License-Identifier: Apache-2.0
"""What is printed is one value, harmless for a terminal, coloured only where colours are seen."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.cli import layout, terminal
from datapipe.cli.findings import finding_lines, verdict_line
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_screen(monkeypatch) -> Screen:
    """Both streams on one terminal."""
    terminal.set_colour(on=None)
    monkeypatch.delenv("NO_COLOR", raising=False)
    made = Screen()
    monkeypatch.setattr(sys, "stdout", made)
    monkeypatch.setattr(sys, "stderr", made)
    return made


def test_colours_only_on_a_terminal_and_never_with_no_color(monkeypatch):
    on_a_screen(monkeypatch)
    assert terminal.painted("fail", "fail") == "\x1b[1;31mfail\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.painted("fail", "fail") == "fail"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert terminal.painted("fail", "fail") == "fail"


def test_progress_is_one_moving_line_on_a_terminal_and_warnings_stay(monkeypatch):
    screen = on_a_screen(monkeypatch)
    handler = terminal.StatusLine(logging.WARNING, moving=True)
    for level, text in ((logging.INFO, "one"), (logging.INFO, "two"), (logging.WARNING, "look")):
        handler.emit(logging.makeLogRecord({"msg": text, "levelno": level, "levelname": "WARNING"}))
    said = screen.getvalue()
    assert said.startswith("\r\x1b[2Kone\r\x1b[2Ktwo\r\x1b[2K")
    assert said.endswith("warning: look\n")


@given(st.text())
def test_text_of_the_data_cannot_move_the_cursor(text):
    shown = terminal.plain(text)
    assert shown.isprintable()
    assert "\x1b" not in shown


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_whatever_is_printed_is_one_json_value_on_one_line(value):
    stream, sys.stdout = sys.stdout, io.StringIO()
    try:
        terminal.out_json(value)
        text = sys.stdout.getvalue()
    finally:
        sys.stdout = stream
    assert text.count("\n") == 1
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def finding(kind: str, verdict: str = "clean", flagged: int = 0) -> Finding:
    rows = scored_rows(range(5), [0.0] * 5, flagged=[i < flagged for i in range(5)])
    return Finding(kind, verdict, Estimate.rate(flagged, 5), "a\x1b[31m sentence", rows=rows)


def test_findings_come_worst_first_and_fit_a_screen():
    many = [finding(f"a.kind{i}") for i in range(40)]
    lines = finding_lines([*many, finding("b.bad", "fail", 2)], width=80)
    assert lines[0].startswith("fail          b.bad")
    assert len(lines) <= 20
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1] == "and 25 more (25 clean); --json shows all"
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 120])
def test_a_narrow_screen_wraps_and_cuts_nothing(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert layout.line_width() == columns
    says = "about 7.7% of 2000 labels are wrong (between 5.8% and 8.9%; not audited)"
    one = Finding("poisoning.trigger_table", "not_evaluated", Estimate.rate(7, 2000), says)
    tables = [["r-1", "poisoning.trigger_table", says], ["r-2", "gate", "closed"]]
    nested = {"row": "1:7", "history": [{"stage": "dedup.exact", "said": says}], "says": says}
    heads = ["run", "kind", "says"]
    for text in (
        "\n".join(finding_lines([one])),
        layout.table(heads, tables),
        layout.sheet(nested),
    ):
        assert max(map(len, text.splitlines())) <= columns, text
        assert "…" not in text
        assert says.replace(" ", "") in "".join(text.split())


def test_a_table_that_fits_is_a_table_and_one_that_does_not_is_blocks():
    rows = [["a", 1, "short"], ["b", 2, "a text of many words that is wrapped"]]
    assert layout.table(["x", "n", "says"], rows, width=34).splitlines() == [
        "x  n  says",
        "a  1  short",
        "b  2  a text of many words that is",
        "      wrapped",
    ]
    wide = [["a" * 20, "b" * 20, "c" * 20]]
    assert layout.table(["x", "x", "z"], wide, width=40).splitlines() == [
        "x      " + "a" * 20,
        "x (2)  " + "b" * 20,
        "z      " + "c" * 20,
    ]
    assert layout.table(["x" * 30, "y" * 30], [], width=40).splitlines()[0] == "x" * 30


def test_the_verdict_counts_each_flagged_row_once():
    both = [finding("a.b", "fail", 2), finding("a.c", "suspect", 3), finding("a.d", "clean", 5)]
    assert (
        verdict_line("fail", both) == "verdict: fail (1 fail, 1 suspect, 1 clean); 3 rows flagged"
    )
