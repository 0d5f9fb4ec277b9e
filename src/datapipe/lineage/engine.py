# SPDX-License-Identifier: Apache-2.0
"""What we ask of DuckDB everywhere, and what its errors mean for whoever called."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datapipe.errors import DatapipeError, ExecutionError, TrustError
from datapipe.lineage import schema
from datapipe.manifest.plain import require

if TYPE_CHECKING:
    import duckdb

QUIET: dict[str, Any] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
"""No connection of ours ever looks for an extension elsewhere."""


def started(settings: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, which says nothing of its own accord.

    At the end of a program it takes it for a session at a terminal, and would draw the progress of
    a slow commit on standard output, where only data belongs.

    Args:
        settings: What else is set: name to value.

    Returns:
        A connection.

    Example:
        >>> asked = "select current_setting('enable_progress_bar')"
        >>> started({"threads": "1"}).execute(asked).fetchall()
        [(False,)]
    """
    from datapipe.lineage.duck import duckdb  # noqa: PLC0415 - by whoever opens an index

    connection = duckdb.connect(":memory:", config=QUIET | settings)
    connection.execute("set enable_progress_bar = false")
    return connection


_UNWRITTEN = (
    "Could not write", "Could not sync", "Could not fsync", "Could not truncate", "fsync failed",
)  # fmt: skip


def is_held(error: duckdb.Error) -> bool:
    """Whether DuckDB could not open a file because somebody else has it open.

    Args:
        error: What it raised.

    Returns:
        True when waiting may help.

    Example:
        >>> import duckdb
        >>> is_held(duckdb.IOException("Could not set lock on file"))
        True
    """
    text = str(error)
    return any(
        words in text
        for words in ("Could not set lock", "different configuration", "already attached")
    )


@contextlib.contextmanager
def other_name(path: Path) -> Iterator[Path]:
    """Another name for a published index, so that a connection to it is in nobody's way.

    DuckDB refuses a second handle on the same path in one process and holds a lock against other
    processes. A published file never changes, so the lock protects nothing; POSIX drops it when the
    process closes any handle of the file.

    Args:
        path: The index.

    Yields:
        The name to open; it goes when the block ends, what was opened stays open.

    Raises:
        TrustError: It is no file.

    Example:
        >>> import tempfile
        >>> import duckdb
        >>> path = Path(tempfile.mkdtemp()) / "a.duckdb"
        >>> duckdb.connect(str(path)).close()
        >>> with other_name(path) as name:
        ...     name.samefile(path)
        True
    """
    require(path)  # as it is called by whoever asks
    name = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        name.hardlink_to(path)
    except OSError:  # a folder that cannot be written, or one without an index
        yield path
        return
    try:
        yield name
        os.close(os.open(name, os.O_RDONLY | os.O_CLOEXEC))
    finally:
        with contextlib.suppress(OSError):
            name.unlink(missing_ok=True)


def left_names(path: Path) -> list[Path]:
    """Other names of an index that processes made and did not live to remove.

    Args:
        path: The index.

    Returns:
        Paths.

    Example:
        >>> left_names(Path("lineage.duckdb"))
        []
    """
    found: list[Path] = []
    for name in path.parent.glob(f".{path.name}.*-*"):
        process = name.name.removeprefix(f".{path.name}.").partition("-")[0]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            found.append(name)
        except (OSError, ValueError, OverflowError):
            continue
    return found


def sorted_error(error: Exception, path: Path) -> DatapipeError:
    """What an error of DuckDB about a file means for whoever called.

    Args:
        error: What DuckDB raised.
        path: The index.

    Returns:
        The error to raise.

    Example:
        >>> import duckdb
        >>> sorted_error(duckdb.IOException("No space left on device"), Path("a")).code
        'DP-EXEC-028'
    """
    from datapipe.lineage.duck import duckdb  # noqa: PLC0415 - by whoever opens an index

    lines = str(error).splitlines()
    told = ("No space left", "disk full", *_UNWRITTEN)  # DuckDB may say it below its own words
    text = next((line for line in lines if any(words in line for words in told)), lines[0])
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
    if os.strerror(errno.EACCES) in text:
        return ExecutionError(
            f"{path} cannot be opened: {os.strerror(errno.EACCES)}",
            code="DP-EXEC-005",
            hint="ask its owner, or make it again: `datapipe lineage rebuild`",
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


def newer(path: Path, version: int, *, known: int = schema.VERSION) -> ExecutionError:
    """The refusal of what a later datapipe wrote.

    Args:
        path: The file.
        version: Its version.
        known: The highest version that this datapipe reads.

    Returns:
        The error to raise.

    Example:
        >>> newer(Path("lineage.duckdb"), 9).message
        'lineage.duckdb has version 9, this datapipe reads up to 2'
    """
    return ExecutionError(
        f"{path} has version {version}, this datapipe reads up to {known}",
        code="DP-EXEC-053",
        hint="use the datapipe that wrote it, or a later one",
    )
