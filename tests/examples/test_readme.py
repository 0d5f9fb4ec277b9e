# SPDX-License-Identifier: Apache-2.0
"""What the README shows works as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
WORDS = {
    1: "poor broken awful refund never waste cheap dirty late sad",
    5: "great lovely fresh friendly perfect again quick warm happy fine",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the README speaks of."""
    rng = np.random.default_rng(5)
    stars = rng.choice([1, 5], 400)
    body = [" ".join(rng.choice(WORDS[s].split(), 8)) + f" {i}" for i, s in enumerate(stars)]
    pl.DataFrame({"body": body, "stars": stars}).write_csv(tmp_path / "reviews.csv")
    y = rng.integers(0, 2, 400)
    text = [" ".join(rng.choice(WORDS[1 + 4 * v].split(), 8)) for v in y]
    pl.DataFrame({"body": text, "x": y + rng.normal(0, 0.2, 400), "y": y}).write_csv(
        tmp_path / "my.csv"
    )
    return tmp_path


def run(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_python_runs(folder: Path):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 14
    (folder / "readme.py").write_text(code)
    done = run("readme.py", folder=folder)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d \[.*\] \(n=400, ", done.stdout) or "(n=400" in done.stdout


def test_the_audit_of_a_file_of_ones_own_and_the_queries(folder: Path):
    done = run("-m", "datapipe", "audit", "my.csv", "--label", "y", folder=folder)
    assert done.returncode in {0, 3}, done.stderr
    assert done.stdout
    queries = re.findall(r'^datapipe sql "(.*)"$', README, re.MULTILINE)
    assert len(queries) == 2
    for query in queries:
        done = run("-m", "datapipe", "sql", query, folder=folder)
        assert done.returncode == 0, done.stderr
    assert run("-m", "datapipe", "why", "1:14", folder=folder).returncode == 0


def test_the_exit_codes_are_those_of_the_errors():
    from datapipe import errors

    table = dict(re.findall(r"^\| (\d+) \| (.*?) \|", README, re.MULTILINE))
    codes = {
        str(e.exit_code)
        for e in vars(errors).values()
        if isinstance(e, type) and issubclass(e, errors.DatapipeError)
    }
    assert codes | {"0", "130"} == set(table)


def test_every_link_leads_somewhere():
    for page in [
        *ROOT.glob("*.md"),
        ROOT / "stages" / "README.md",
        ROOT / "examples" / "README.md",
    ]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
