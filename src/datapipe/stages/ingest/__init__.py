# SPDX-License-Identifier: Apache-2.0
"""Readers: files and Arrow objects become rows that have names, or are refused.

`reader_key` says which reader a file's name asks for, so that a command line can pick one.
"""

from __future__ import annotations

import os
from pathlib import PurePath

from datapipe.errors import DeclarationError, Malformed

SUFFIXES = {
    ".parquet": "ingest.parquet",
    ".pq": "ingest.parquet",
    ".csv": "ingest.csv",
    ".tsv": "ingest.csv",
    ".jsonl": "ingest.jsonl",
    ".ndjson": "ingest.jsonl",
    ".arrow": "ingest.ipc",
    ".arrows": "ingest.ipc",
    ".ipc": "ingest.ipc",
    ".feather": "ingest.ipc",
}
"""File name ending to the catalogue key of its reader."""

EXECUTABLE = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy", ".npz", ".ckpt", ".bin", ".dill")
"""Endings of formats that can run code when they are opened; they are never opened."""


def reader_key(path: str | os.PathLike[str]) -> str:
    """The catalogue key of the reader for a file, by its name alone.

    Args:
        path: A file name or glob.

    Returns:
        A key such as `ingest.parquet`.

    Raises:
        Malformed: The name is that of a format that can run code when it is opened.
        DeclarationError: No reader knows this ending.

    Example:
        >>> reader_key("reviews/part-1.parquet")
        'ingest.parquet'
    """
    suffix = PurePath(path).suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in EXECUTABLE:
        raise Malformed(
            f"{os.fspath(path)}: a {suffix} file can run code when it is opened; it was not opened",
            code="DP-READ-005",
            hint="save the rows as Parquet where they were made, and read that",
        )
    raise DeclarationError(
        f"{os.fspath(path)}: no reader knows files "
        + (f"that end in {suffix!r}" if suffix else "whose name has no ending"),
        code="DP-READ-023",
        hint=f"give a file that ends in one of {', '.join(sorted(SUFFIXES))}",
    )
