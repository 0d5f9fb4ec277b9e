# SPDX-License-Identifier: Apache-2.0
"""Dawid-Skene without smoothing gives crowd-kit's posteriors, at equal rounds (`make peers`)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from datapipe.measure.crowd import Answers
from datapipe.measure.crowd_models import dawid_skene

pytestmark = pytest.mark.power
THEIRS = Path(__file__).resolve().parents[2] / ".venv-peers" / "crowd" / "bin" / "python"
SCRIPT = """
import sys
import numpy as np
import pandas as pd
from crowdkit.aggregation import DawidSkene
item, who, said = np.load("answers.npy")
frame = pd.DataFrame({"task": item, "worker": who, "label": said})
made = DawidSkene(n_iter=int(sys.argv[1]), tol=0).fit_predict_proba(frame).sort_index()
np.save("theirs.npy", made[sorted(made.columns)].to_numpy())
"""


@pytest.mark.parametrize("rounds", [1, 5])
def test_posteriors_are_theirs_to_a_millionth(tmp_path, rounds):
    if not THEIRS.exists():
        pytest.skip("crowd-kit is not installed: make peers")
    rng = np.random.default_rng(1)
    true = rng.integers(0, 5, 2000)
    item, who = np.repeat(np.arange(2000), 5), rng.integers(0, 60, 10_000)
    first = np.unique(item * 60 + who, return_index=True)[1]
    item, who = item[first], who[first]
    said = np.where(rng.random(item.size) < 0.6, true[item], rng.integers(0, 5, item.size))
    np.save(tmp_path / "answers.npy", np.stack([item, who, said]))
    subprocess.run([THEIRS, "-c", SCRIPT, str(rounds)], cwd=tmp_path, check=True)
    answers = Answers(item, who, said, 2000, 60, 5)
    ours = dawid_skene(answers, iterations=rounds, tolerance=0, smoothing=0).posterior
    apart = float(np.abs(ours - np.load(tmp_path / "theirs.npy")).max())
    print(f"{rounds} rounds: largest difference {apart:.1e}")
    assert apart < 1e-6
