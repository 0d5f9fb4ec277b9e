# SPDX-License-Identifier: Apache-2.0
"""Every example prints what its first comment promises, offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PROMISE = re.compile(r"# Prints:\n((?:#     .*\n)+)")


def promise(path: Path) -> list[str]:
    """The lines an example promises, in order; `…` stands for any text."""
    found = PROMISE.search(path.read_text())
    assert found, f"{path.name} promises nothing"
    return [line.removeprefix("#     ") for line in found[1].splitlines()]


def fits(promised: str, printed: str) -> bool:
    parts = (re.escape(part.strip()) for part in promised.split("…"))
    return re.fullmatch(r".*".join(parts), printed.strip()) is not None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_it_prints_what_it_promises(path: Path, tmp_path: Path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DATAPIPE")}
    done = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env={**environment, "http_proxy": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed, expected = done.stdout.splitlines(), promise(path)
    assert len(printed) == len(expected), done.stdout
    for told, line in zip(expected, printed, strict=True):
        assert fits(told, line), f"promised {told!r}, printed {line!r}"
    assert not list(tmp_path.iterdir()), "an example left files where it ran"


def test_there_are_at_least_six_and_each_is_listed():
    listed = (ROOT / "examples" / "README.md").read_text()
    assert len(EXAMPLES) >= 6
    assert all(f"({path.name})" in listed for path in EXAMPLES)


def test_a_promise_that_is_not_kept_is_noticed():
    assert fits("accuracy 0.… [0.…, 0.…]", "accuracy 0.9 [0.8, 0.95]")
    assert not fits("exit code 3", "exit code 0")
    assert not fits("rows …", "row 3")
