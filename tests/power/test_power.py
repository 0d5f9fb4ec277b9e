# SPDX-License-Identifier: Apache-2.0
"""The lower bound of detection clears its floor, the upper bound of false alarms its ceiling."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from datapipe.stages import CATALOGUE

HERE = Path(__file__).resolve().parent
SEEDS = 4
"""Of the seeds that `make evidence` uses, the suite has time for the first few."""


def load(path: Path):
    spec = importlib.util.spec_from_file_location(f"power_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


evidence = load(HERE / "evidence.py")
MEASURED = [key for key in CATALOGUE if (HERE / f"{key.replace('.', '/')}.py").is_file()]


@pytest.mark.parametrize("key", MEASURED)
def test_bounds_keep_to_the_declared_limits(key: str):
    module = evidence.module_of(key)
    figures, _ = evidence.measured(key, module, list(module.SEEDS)[:SEEDS])
    low = {k: str(figures[k]) for k, floor in module.FLOORS.items() if figures[k].low < floor}
    high = {k: str(figures[k]) for k, most in module.CEILINGS.items() if figures[k].high > most}
    assert not low, f"below the floor: {low}"
    assert not high, f"above the ceiling: {high}"


def test_what_is_measured_belongs_to_a_stage():
    known = {f"{key.replace('.', '/')}.py" for key in CATALOGUE}
    assert {str(p.relative_to(HERE)) for p in HERE.glob("*/*.py")} <= known
