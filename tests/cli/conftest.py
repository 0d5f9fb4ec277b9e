# SPDX-License-Identifier: Apache-2.0
"""A command line for tests: the real `main`, in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from datapipe.cli.app import main


@dataclass(frozen=True)
class Answer:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)

    @property
    def message(self) -> str:
        """The first line of the error."""
        return self.err.partition("\n")[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh current folder, without anything of the user's."""
    for name in ("DATAPIPE_KEY", "DATAPIPE_KEY_PASSPHRASE", "DATAPIPE_KEYS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def datapipe(here: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run one command line."""

    def run(*words: object) -> Answer:
        capfd.readouterr()
        code = main([str(w) for w in words])
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return run
