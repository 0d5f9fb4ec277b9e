# SPDX-License-Identifier: Apache-2.0
"""Floors: imports only go down, families do not know each other, nothing heavy below."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter")


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """The contracts of pyproject.toml held against the source below a root."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_only_go_down(root: Path):
    result = lint(root)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line", "told"),
    [
        ("stages/dedup/exact.py", "import datapipe.lineage.journal", "neither the store"),
        (
            "stages/dedup/exact.py",
            "import datapipe.stages.labels.majority",
            "do not know each other",
        ),
        ("core/estimate.py", "import datapipe.measure.intervals", "only go down"),
        ("measure/intervals.py", "import scipy", "nothing heavy"),
    ],
)
def test_a_planted_violation_is_reported(root: Path, tmp_path: Path, module, line, told):
    shutil.copy(root / "pyproject.toml", tmp_path)
    shutil.copytree(root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path / "src" / "datapipe" / module
    target.write_text(target.read_text() + f"\n{line}\n")
    result = lint(tmp_path)
    assert result.returncode == 1, result.stdout
    assert any(told in x and "BROKEN" in x for x in result.stdout.splitlines()), result.stdout
