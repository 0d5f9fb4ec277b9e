# SPDX-License-Identifier: Apache-2.0
"""Processes that die, or whose disk fails, at a chosen system call; the product does not help."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHIM = Path(__file__).parent / "shim"


SWEEP_S = 7200
"""A backstop for what hangs: a sweep takes minutes alone, and many times that beside others."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sweeps have hours, not the minutes of other tests, whatever else the machine does."""
    if "faults" not in str(config.option.markexpr):
        return
    for item in items:
        if item.get_closest_marker("faults") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SWEEP_S))


class Worker:
    """A process that forks once for each job, with the fault library loaded."""

    def __init__(self, library: Path) -> None:
        self._library = library
        self._process: subprocess.Popen[str] | None = None

    def do(self, job: str, store: Path, **how: Any) -> dict[str, Any]:
        """Do a job and say how it ended; a killed one answers with its signal alone."""
        if self._process is None:
            environment = {k: v for k, v in os.environ.items() if not k.startswith("DATAPIPE_")}
            self._process = subprocess.Popen(
                [sys.executable, str(SHIM / "worker.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment | {"LD_PRELOAD": str(self._library), "POLARS_MAX_THREADS": "2"},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        told = {k: str(v) if isinstance(v, Path) else v for k, v in how.items()}
        self._process.stdin.write(json.dumps({"job": job, "store": str(store), **told}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the worker died on {job} {how}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    @staticmethod
    def step(line: str) -> str:
        """A call and the kind of file it changes: what a line of the log shares with others."""
        call, path = (*line.split(maxsplit=2)[1:], "/")[:2]
        return f"{call} {re.sub(r'[0-9a-f]{8,}|[0-9]+', '*', path)}"

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=30)


@pytest.fixture(scope="session")
def fault_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that counts, kills and fails system calls; built from its one C file."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler here, or no Linux: faults at a system call cannot be made")
    made = tmp_path_factory.mktemp("shim") / "faults.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(SHIM / "faults.c"), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the fault library cannot be built here: {done.stderr[:200]}")
    return made


@pytest.fixture(scope="module")
def worker(fault_library: Path) -> Iterator[Worker]:
    """One worker for a file of tests."""
    made = Worker(fault_library)
    yield made
    made.close()


@pytest.fixture(scope="session")
def sweeps(request: pytest.FixtureRequest) -> bool:
    """Whether the long sweeps were asked for: `make faults`."""
    return "faults" in str(request.config.option.markexpr)


@pytest.fixture(scope="session")
def part() -> slice:
    """The part of a sweep that was asked for: `FAULTS_PART=k/n`."""
    k, n = map(int, os.environ.get("FAULTS_PART", "1/1").split("/"))
    return slice(k - 1, None, n)
