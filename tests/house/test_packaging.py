# SPDX-License-Identifier: Apache-2.0
"""What the two commands, the wheel and the pins promise."""

from __future__ import annotations

import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import datapipe
from datapipe.report import cards
from datapipe.stages import CATALOGUE, EXTRAS

CORE = {"polars", "pyarrow", "duckdb", "cryptography", "numpy", "threadpoolctl", "typer", "rich"}


@pytest.fixture(scope="module")
def project(root: Path):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins(root: Path) -> dict[str, str]:
    lines = (root / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_core_needs_nothing_heavier(project):
    assert {Requirement(r).name for r in project["dependencies"]} == CORE


def test_the_version_is_told_once_in_two_places(project):
    assert project["version"] == datapipe.__version__


def test_every_optional_package_has_its_extra(project):
    extras = project["optional-dependencies"]
    distribution = {"sklearn": "scikit-learn", "c2pa": "c2pa-python"}
    for package, extra in EXTRAS.items():
        names = {canonicalize_name(Requirement(r).name) for r in extras[extra]}
        assert canonicalize_name(distribution.get(package, package)) in names


def test_the_pins_are_exact_and_satisfy_what_is_asked_for(project, pins):
    assert all(re.fullmatch(r"[\w.]+", v) for v in pins.values()), "no path, address or build tag"
    pinned = {canonicalize_name(name): v for name, v in pins.items()}
    extras = chain.from_iterable(project["optional-dependencies"].values())
    asked = [*project["dependencies"], *extras]
    for requirement in map(Requirement, asked):
        if requirement.name != "datapipe":
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{requirement.name} is not pinned"
            assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_make_lists_its_targets(root: Path):
    done = subprocess.run(["make"], cwd=root, capture_output=True, text=True, check=True)
    told = {line.split()[1] for line in done.stdout.splitlines()}
    assert {"demo", "test", "check", "fmt", "cards", "evidence", "bench"} <= told


def test_the_build_machine_runs_what_the_readme_says(root: Path):
    assert "exec make test" in (root / ".ci" / "run").read_text()
    assert "\nmake test " in (root / "README.md").read_text()
    assert (root / ".ci" / "run").stat().st_mode & 0o100


def test_cards_are_found_in_a_checkout_and_in_a_wheel(root: Path, tmp_path: Path, monkeypatch):
    assert cards.cards_folder() == root / "stages"
    package = tmp_path / "datapipe"
    (package / "cards").mkdir(parents=True)
    (package / "cards" / "README.md").write_text("here")
    monkeypatch.setattr(datapipe, "__file__", str(package / "__init__.py"))
    assert cards.cards_folder() == package / "cards"


def test_the_wheel_takes_the_cards_and_the_contract_along(root: Path):
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    taken = build["targets"]["wheel"]["force-include"]
    assert taken == {"stages": "datapipe/cards", "manifests": "datapipe/contract"}
    assert all((root / folder).is_dir() for folder in taken)


def test_every_card_has_the_facts_of_its_class(capsys):
    assert cards.main(["--check", *CATALOGUE]) == 0, capsys.readouterr().err
