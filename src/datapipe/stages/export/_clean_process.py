# SPDX-License-Identifier: Apache-2.0
"""Opening an exported file in a process of its own and comparing what it says."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import ExecutionError
from datapipe.stages.export import _reopen

REOPEN_SECONDS = 120
"""How long the clean process may take: it imports torch on a busy machine."""
DIFFERENCE_MOST = 1e-5
KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that come from elsewhere: they say nothing about the file."""
Floats = NDArray[np.float32]
Answer = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Compared:
    """What a clean process made of a file."""

    difference: float | None
    problem: str = ""


def reopened(form: str, path: Path, tried: Floats, here: Answer, folder: Path) -> Compared:
    """Open the file in a process without datapipe, and compare its answers with ours."""
    path, folder = path.resolve(), folder.resolve()  # the other process starts in `folder`
    rows, out = folder / "rows.npy", folder / "answers.npy"
    np.save(rows, tried, allow_pickle=False)
    command = [sys.executable, "-P", str(_reopen.__file__), form, str(path), str(rows), str(out)]
    try:
        done = subprocess.run(  # noqa: S603 - our own program, arguments that we wrote
            command, capture_output=True, text=True, timeout=REOPEN_SECONDS, check=False, cwd=folder
        )
    except subprocess.TimeoutExpired:
        return Compared(None, f"it did not open within {REOPEN_SECONDS} s")
    if -done.returncode in KILLED:
        raise ExecutionError(
            f"export.quantized: the process that opens {path.name} was killed by signal "
            f"{-done.returncode}",
            code="DP-EXEC-095",
            hint="run again; where memory ran out, with less beside it: finished steps are reused",
            stage="export.quantized",
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return Compared(None, f"it does not open elsewhere: {lines[-1][:300]}")
    there = np.load(out, allow_pickle=False)
    expected = np.concatenate([here(tried), here(tried[:1])])
    if there.shape != expected.shape or not np.isfinite(there).all():
        return Compared(None, "opened elsewhere, it gives other shapes or no numbers")
    difference = float(np.abs(there - expected).max())
    if difference > DIFFERENCE_MOST:
        return Compared(difference, f"opened elsewhere, its answers differ by {difference:.2g}")
    return Compared(difference)
