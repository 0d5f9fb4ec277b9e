# SPDX-License-Identifier: Apache-2.0
"""`sql`: data only on stdout, safe in spreadsheets, and nothing but questions."""

from __future__ import annotations

import csv
import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.cli.sql import safe_csv
from datapipe.lineage.store import Lineage


@pytest.fixture
def store(here):
    lineage = Lineage(".datapipe", create=True)
    for run, name in (("r1", "=1+1"), ("r2", "fine")):
        lineage.append([("runs", {"run_id": run, "pipeline": name, "seed": -7})])
    return lineage


def test_csv_in_a_pipe_and_json_when_asked(datapipe, store):
    query = "select run_id, pipeline, seed from runs order by 1"
    answer = datapipe("sql", query)
    assert (answer.code, answer.err) == (0, "")
    assert list(csv.reader(io.StringIO(answer.out))) == [
        ["run_id", "pipeline", "seed"],
        ["r1", "'=1+1", "-7"],
        ["r2", "fine", "-7"],
    ]
    assert datapipe("sql", query, "--json").json[0] == {
        "run_id": "r1",
        "pipeline": "=1+1",
        "seed": -7,
    }


@pytest.mark.parametrize(
    ("asked", "in_json", "in_csv"),
    [
        ("interval '1 day'", "1 day", "1 day"),
        ("union_value(a := 1)", "1", "1"),
        ("340282366920938463463374607431768211455::uhugeint", str(2**128 - 1), str(2**128 - 1)),
        ("10000000000000000000000001::hugeint", str(10**25 + 1), str(10**25 + 1)),
        ("'101'::bit", "101", "101"),
        ("{'a': interval '1 day'}", "{'a': 1 day}", "{'a': 1 day}"),
        ("[[1], [2, 3]]", [[1], [2, 3]], "[[1], [2, 3]]"),
        ("array_value(1, 2)", [1, 2], "[1, 2]"),
        ("map {'k': 1}", {"k": 1}, '{"k": 1}'),
        (r"'\xff'::blob", "ff", "ff"),
        ("date 'infinity'", "infinity", "infinity"),
        ("date '-infinity'", "-infinity", "'-infinity"),
        ("timestamp 'infinity'", "infinity", "infinity"),
        ("timestamptz '-infinity'", "-infinity", "'-infinity"),
        ("timestamp_s 'infinity'", "infinity", "infinity"),
        ("timestamp_ns 'infinity'", "infinity", "infinity"),
        ("date '290000-01-01'", "290000-01-01", "290000-01-01"),
        ("timestamp '0044-03-15 (BC) 10:00:00'", *("0044-03-15 (BC) 10:00:00",) * 2),
        ("time '24:00:00'", "24:00:00", "24:00:00"),
        ("[date 'infinity']", "[infinity]", "[infinity]"),
        ("[[{'a': date 'infinity'}]]", *("[[{'a': infinity}]]",) * 2),
        ("map {date 'infinity': 1}", "{infinity=1}", "{infinity=1}"),
        ("array_value(date 'infinity', null)", *("[infinity, NULL]",) * 2),
        ("date '2026-12-01'", "2026-12-01", "2026-12-01"),
    ],
)
def test_every_type_has_a_form(datapipe, store, asked, in_json, in_csv):
    query = f"select 1 as x, {asked} as x"
    assert datapipe("sql", query, "--json").json == [{"x": 1, "x_1": in_json}]
    assert list(csv.reader(io.StringIO(datapipe("sql", query).out)))[1] == ["1", in_csv]


@pytest.mark.parametrize(
    "order",
    [
        "copy runs to 'x.csv'",
        "attach 'x.db'",
        "install httpfs",
        "set memory_limit = '1TB'",
        "drop table runs",
        "insert into runs values (1)",
        "select 1; select 2",
        "from read_text('p.py')",
        "select getenv('HOME')",
    ],
)
def test_orders_are_refused(datapipe, store, here, order):
    answer = datapipe("sql", order)
    assert answer.code == 2
    assert answer.out == ""
    assert [p.name for p in here.iterdir()] == [".datapipe"]


def test_a_misspelt_table_is_told(datapipe, store):
    answer = datapipe("sql", "from dropped_row")
    assert answer.code == 2
    assert "dropped_row" in answer.message


DEAF = "select levenshtein(repeat('a', 500000), repeat('b', 500000))"
"""One call of a function that takes many minutes and looks for nothing meanwhile."""


@pytest.mark.parametrize(
    "question",
    [
        "select count(*) from range(30000000) a, range(1000000000) b",
        "with recursive r(n) as (select 1 union all select n + 1 from r) select max(n) from r",
        DEAF,
    ],
)
def test_ctrl_c_ends_a_question_at_once(store, question):
    command = [sys.executable, "-m", "datapipe", "sql", question]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as asking:
        try:
            wait_until_watched(asking)
            start = time.monotonic()
            asking.send_signal(signal.SIGINT)
            said, told = asking.communicate(timeout=20)
            taken = time.monotonic() - start
        finally:
            asking.kill()
    assert (asking.returncode, said) == (130, "")
    assert told.startswith("interrupted [DP-EXEC-130]\n\nhint: ")
    assert len(told.splitlines()) == 3
    assert taken < 4  # 1 s on an idle machine


def wait_until_watched(asking: subprocess.Popen) -> None:
    """Until the question has its watch: two pipes, beside stdout and stderr."""
    held = Path(f"/proc/{asking.pid}/fd")
    end = time.monotonic() + 60
    while sum("pipe" in _named(descriptor) for descriptor in held.iterdir()) < 6:
        assert asking.poll() is None, asking.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.1)


def _named(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # closed a moment ago
        return ""


LATE = """
import sys
from datapipe.cli.app import main
from datapipe.lineage import console
console.Limits.__init__.__defaults__ = (0.3, *console.Limits.__init__.__defaults__[1:])
console.answered.__defaults__ = (console.Limits(),)
sys.exit(main())
"""


def test_a_question_that_hears_nothing_ends_at_its_time_all_the_same(store):
    command = [sys.executable, "-c", LATE, "sql", DEAF, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (6, "")
    assert '"message": "the question took longer than 0.3 s"' in done.stderr


LARGE = LATE.replace(
    "(0.3, *console.Limits.__init__.__defaults__[1:])", "(60.0, '20GB', 1 << 30, 1.0, 1, 1 << 27)"
)


def test_memory_that_the_engine_does_not_count_ends_the_question(store):
    asked = "select len(list_transform(range(60000000), lambda x: x + 1))"
    command = [sys.executable, "-c", LARGE, "sql", asked, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (6, "")
    assert '"message": "the question needs more than 0.1 GB of memory"' in done.stderr


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=4))
def test_no_cell_is_a_formula(cells):
    text = safe_csv(pl.DataFrame({"a": cells}))
    read = [row[0] if row else "" for row in csv.reader(io.StringIO(text, newline=""))][1:]
    for cell in read:
        try:
            float(cell)
        except ValueError:
            assert cell[:1] not in set("=+-@\t\r")
