# SPDX-License-Identifier: Apache-2.0
"""What is left to the end of a program is made up for later when it fails, without a word."""

from __future__ import annotations

import subprocess
import sys

import pytest

from datapipe.errors import ExecutionError
from datapipe.lineage import later


@pytest.mark.parametrize(
    "error",
    [
        ExecutionError("full", hint="make room"),
        OSError(28, "full"),
        KeyboardInterrupt(),
        RuntimeError("Query interrupted"),  # what DuckDB makes of Ctrl-C
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_fails_at_the_end_is_left_to_the_next_question(tmp_path, error) -> None:
    done = []

    def fails():
        done.append("tried")
        raise error

    (tmp_path / "other").mkdir()
    later.at_exit(tmp_path / "other", lambda: done.append("other"))
    later.at_exit(tmp_path, fails)
    later._now()
    assert done == ["tried", "other"]


def test_a_store_that_is_gone_needs_nothing(tmp_path) -> None:
    later.at_exit(tmp_path / "gone", lambda: pytest.fail("nothing is there"))
    later._now()


AT_THE_END = """
import atexit

from datapipe.lineage.index import _engine


@atexit.register
def ask():
    with _engine() as connection:
        print(connection.execute("select current_setting('enable_progress_bar')").fetchall())
"""


def test_an_index_made_at_the_end_draws_no_progress_among_the_data(tmp_path) -> None:
    (tmp_path / "program.py").write_text(AT_THE_END)
    command = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[(False,)]"
