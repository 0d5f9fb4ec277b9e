# SPDX-License-Identifier: Apache-2.0
"""What we ask of DuckDB everywhere, and what its errors mean for whoever called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from datapipe.errors import DatapipeError, ExecutionError, TrustError
from datapipe.lineage import schema

QUIET: dict[str, Any] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
"""No connection of ours ever looks for an extension elsewhere."""


_UNWRITTEN = ("Could not write", "Could not sync", "Could not truncate", "fsync failed")


def is_held(error: duckdb.Error) -> bool:
    """Whether DuckDB could not open a file because somebody else has it open.

    Args:
        error: What it raised.

    Returns:
        True when waiting may help.

    Example:
        >>> is_held(duckdb.IOException("Could not set lock on file"))
        True
    """
    text = str(error)
    return any(
        words in text
        for words in ("Could not set lock", "different configuration", "already attached")
    )


def sorted_error(error: Exception, path: Path) -> DatapipeError:
    """What an error of DuckDB about a file means for whoever called.

    Args:
        error: What DuckDB raised.
        path: The index.

    Returns:
        The error to raise.

    Example:
        >>> sorted_error(duckdb.IOException("No space left on device"), Path("a")).code
        'DP-EXEC-028'
    """
    text = str(error).splitlines()[0]
    if "No space left" in text or "disk full" in text.lower():
        return ExecutionError(
            f"disk full: {path} could not be written",
            code="DP-EXEC-028",
            hint="free some space and run again; what was recorded before is intact",
        )
    if any(words in text for words in _UNWRITTEN):
        return ExecutionError(
            f"{path} could not be written: {text}",
            code="DP-EXEC-005",
            hint="see that its disk is sound, then run again: the index is made from the journal",
        )
    if isinstance(error, duckdb.Error) and is_held(error):
        return ExecutionError(
            f"{path} is held by another program: {text}",
            code="DP-EXEC-050",
            hint="close the program that has it open for writing",
        )
    return TrustError(
        f"{path} cannot be read: {text}",
        code="DP-TRUST-705",
        hint="make it again from the journal with `datapipe lineage rebuild`",
        path=str(path),
    )


def newer(path: Path, version: int) -> ExecutionError:
    """The refusal of what a later datapipe wrote.

    Args:
        path: The file.
        version: Its version.

    Returns:
        The error to raise.

    Example:
        >>> newer(Path("lineage.duckdb"), 9).message
        'lineage.duckdb has version 9, this datapipe reads up to 1'
    """
    return ExecutionError(
        f"{path} has version {version}, this datapipe reads up to {schema.VERSION}",
        code="DP-EXEC-053",
        hint="use the datapipe that wrote it, or a later one",
    )
