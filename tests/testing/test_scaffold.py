# SPDX-License-Identifier: Apache-2.0
"""A scaffolded stage works at once: in a checkout and in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datapipe.errors import DeclarationError
from datapipe.testing import new_stage

ROOMS = ("src", "stages", "pyproject.toml")


def run(*command: object, cwd: Path, source: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{source}:{cwd}"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A copy of the checkout's rooms."""
    for name in ROOMS:
        if (root / name).is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, tmp_path / name, ignore=skipped)
        else:
            shutil.copy(root / name, tmp_path)
    return tmp_path


def test_a_stage_in_the_checkout_passes_its_test_and_the_cards(checkout: Path):
    written = new_stage("forms.many_gaps", checkout)
    assert len(written) == 6, "module, card, test, catalogue and two pages of a new family"
    source = checkout / "src"
    test = checkout / "tests" / "stages" / "forms" / "test_many_gaps.py"
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", test, cwd=checkout, source=source)
    assert done.returncode == 0, done.stdout
    for mode in ("--write", "--check"):
        done = run(
            "-m", "datapipe.report.cards", mode, "forms.many_gaps", cwd=checkout, source=source
        )
        assert done.returncode == 0, done.stderr
    assert "`most`" in (checkout / "stages" / "forms" / "many_gaps.md").read_text()


def test_the_scaffold_is_formatted_and_lints(checkout: Path):
    written = [p for p in new_stage("forms.many_gaps", checkout) if p.suffix == ".py"]
    for action in (("format", "--check"), ("check",)):
        done = run("-m", "ruff", *action, "--no-cache", *written, cwd=checkout, source=checkout)
        assert done.returncode == 0, done.stdout


def test_a_stage_outside_passes_its_test(root: Path, tmp_path: Path):
    new_stage("forms.gaps", tmp_path)
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path, source=root / "src")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("key", ["gaps", "Forms.gaps", "forms.", "forms.gaps/../x", "a b.c"])
def test_a_bad_key_is_refused(key: str, tmp_path: Path):
    with pytest.raises(DeclarationError, match="no stage key"):
        new_stage(key, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path):
    new_stage("forms.gaps", tmp_path)
    with pytest.raises(DeclarationError, match="already"):
        new_stage("forms.gaps", tmp_path)
