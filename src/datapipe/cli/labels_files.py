# SPDX-License-Identifier: Apache-2.0
"""What the verbs of `datapipe labels` share: options, and files written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from datapipe.cli.sql import safe_csv
from datapipe.errors import DeclarationError, ExecutionError

File = Annotated[str, typer.Argument(metavar="FILE", help="CSV, JSONL, Parquet or Arrow.")]
Label = Annotated[str, typer.Option(metavar="COL", help="The labels to be judged.")]
Text = Annotated[str, typer.Option(metavar="COL", help="A text.")]
Image = Annotated[str, typer.Option(metavar="COL", help="Pixels, or a pattern: 'px_*'.")]
Probs = Annotated[
    str,
    typer.Option(
        metavar="COL",
        help="Out-of-fold probabilities: a list column, or one column a class: 'p*' or 'a,b,c'.",
    ),
]
Kind = Annotated[
    str,
    typer.Option(
        metavar="KIND", help="What a label is: auto, class, multilabel, tokens, boxes, value."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Where to write: .parquet, .csv, .jsonl."),
]


def known_format(path: Path | None) -> str:
    """The suffix of a file that can be written; told before anything runs.

    Args:
        path: What `-o` named, None for nothing.

    Returns:
        The suffix in lower case, empty for nothing.

    Raises:
        DeclarationError: Files of this kind are not written.

    Example:
        >>> known_format(Path("a.parquet"))
        '.parquet'
    """
    if path is None:
        return ""
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv", ".jsonl"):
        raise DeclarationError(
            f"{path}: files that end in {suffix or 'nothing'!r} are not written",
            code="DP-USE-041",
            hint="end it in .parquet, .csv or .jsonl",
        )
    return suffix


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that a CSV file can hold.

    Args:
        frame: A table.

    Returns:
        The table without nested columns.

    Example:
        >>> flat(pl.DataFrame({"a": [1], "b": [[1, 2]]})).columns
        ['a']
    """
    return frame.select(n for n, kind in frame.schema.items() if not kind.is_nested())


def write_table(frame: pl.DataFrame, path: Path, *, for_people: bool = False) -> None:
    r"""Write rows; in CSV for people no cell is a formula, data keeps its cells as they are.

    Args:
        frame: The rows.
        path: Where; the suffix says how.
        for_people: Whether the rows are shown to people rather than read by programs.

    Raises:
        ExecutionError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.jsonl"
        >>> write_table(pl.DataFrame({"a": [1]}), target)
        >>> target.read_text()
        '{"a":1}\n'
    """
    suffix = known_format(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        if suffix == ".parquet":
            frame.write_parquet(partial)
        elif suffix == ".csv":
            cells = flat(frame)
            partial.write_text(safe_csv(cells) if for_people else cells.write_csv(), "utf-8")
        else:
            frame.write_ndjson(partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ExecutionError(
            f"{path} cannot be written: {error.strerror}",
            code="DP-EXEC-072",
            hint="choose a folder that you may write to, with enough space",
        ) from error
