# SPDX-License-Identifier: Apache-2.0
"""Exceptions become the documented codes, and text that says what to do."""

from __future__ import annotations

import errno

import click
import pytest

from datapipe import errors
from datapipe.cli.exits import as_told, exit_code, explain


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (click.exceptions.Exit(3), 3),
        (click.UsageError("no"), 2),
        (errors.DeclarationError("no"), 2),
        (errors.SchemaMismatch("no"), 2),
        (errors.GateClosed("no"), 3),
        (errors.TrustError("no"), 4),
        (errors.BudgetSpent("no"), 5),
        (errors.ExecutionError("no"), 6),
        (OSError(errno.EACCES, "no"), 6),
        (MemoryError(), 6),
        (errors.Malformed("no"), 7),
        (errors.LimitExceeded("no"), 7),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (RuntimeError("Query interrupted"), 130),
        (RuntimeError("no"), 1),
        (BrokenPipeError(), 0),
        (ZeroDivisionError(), 1),
    ],
)
def test_codes(error, code):
    assert exit_code(error) == code


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_file(number):
    told = as_told(OSError(number, "full", "objects/ab"))
    assert told.message == "disk full: objects/ab could not be written"
    assert told.exit_code == 6


def test_a_bug_names_its_log_which_only_its_owner_may_read(capfd):
    from pathlib import Path

    explain(ZeroDivisionError("secret"), as_json=False)
    said = capfd.readouterr().err
    assert "secret" not in said
    path = Path(said.split("the traceback is in ")[1].split(" ")[0])
    assert "ZeroDivisionError: secret" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    path.unlink()
