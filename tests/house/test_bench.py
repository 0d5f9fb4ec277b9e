# SPDX-License-Identifier: Apache-2.0
"""The comparisons run and say what they promise; no figure of theirs is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_comparison_prints_one_json_line_a_case(root: Path):
    done = subprocess.run(
        [
            sys.executable,
            root / "tests/bench/run.py",
            "--only",
            "import_cost",
            "--repeats",
            "2",
            "--no-keep",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["case"] for line in lines] == ["import", "help"]
    for line in lines:
        ratio = line["cpu_ratio"]
        assert ratio["low"] <= ratio["median"] <= ratio["high"]
        assert {"name", "subject", "peer", "memory_ratio", "n", "command"} <= line.keys()


def test_lineage_overhead_compares_equal_outcomes(root: Path):
    done = subprocess.run(
        [
            sys.executable, root / "tests/bench/run.py", "--only", "lineage_overhead",
            "--case", "narrow at our level", "--rows", "20000", "--repeats", "1",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["case"] for line in lines] == ["narrow at our level"]
    assert all(0 < int(line["outcome"]) < 20000 for line in lines)


def test_results_are_kept_with_what_they_depend_on(root: Path):
    for path in sorted((root / "tests" / "bench" / "results").glob("*.json")):
        kept = json.loads(path.read_text())
        assert {"versions", "python", "cores", "results"} <= kept.keys()
        assert (path.parents[1] / f"{path.stem}.py").is_file()
