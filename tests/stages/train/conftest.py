# SPDX-License-Identifier: Apache-2.0
"""Rows that the trainers are tried on."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_digits

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles


@pytest.fixture(scope="session")
def digits() -> Dataset:
    images, labels = load_digits(return_X_y=True)
    frame = pl.DataFrame({"image": images.astype(np.float32), "label": labels})
    return Dataset.of(frame, Roles.of(image="image", label="label"))


@pytest.fixture
def table() -> Dataset:
    """400 rows of two overlapping classes; half of the label follows from `a`."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 400)
    frame = pl.DataFrame(
        {
            "a": rng.normal(2.0 * y, 1.0),
            "b": rng.normal(1000.0, 50.0, 400),
            "c": rng.choice(["x", "y", "z"], 400),
            "who": rng.integers(0, 80, 400),
            "y": np.array(["no", "yes"])[y],
        }
    )
    return Dataset.of(frame, Roles.of(label="y", subject="who"))


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module with networks of a user, importable by name."""
    (tmp_path / "own_networks.py").write_text(
        "from torch import nn\n"
        "def gelu(shape, n_classes):\n"
        "    n = 1\n"
        "    for side in shape:\n"
        "        n *= side\n"
        "    layers = [nn.Flatten(), nn.Linear(n, 16), nn.GELU(), nn.Linear(16, n_classes)]\n"
        "    return nn.Sequential(*layers)\n"
        "def normed(shape, n_classes):\n"
        "    return nn.Sequential(nn.BatchNorm2d(shape[0]), *gelu(shape, n_classes))\n"
        "def narrow(shape, n_classes):\n"
        "    return gelu(shape, n_classes - 1)\n"
        "class Root(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return (x + 1.5).sqrt()\n"
        "def rooted(shape, n_classes):\n"
        "    return nn.Sequential(Root(), *gelu(shape, n_classes))\n"
        "def number(shape, n_classes):\n"
        "    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import own_networks

    yield own_networks
    import sys

    sys.modules.pop("own_networks")
