# SPDX-License-Identifier: Apache-2.0
"""`datapipe labels export` and `import`: rows to labelling tools, and their answers back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from datapipe.cli.labels_files import Output, known_format, write_table
from datapipe.cli.options import Json, existing
from datapipe.cli.terminal import out, out_json, plain
from datapipe.errors import DeclarationError, Malformed, nearest
from datapipe.integrations.label_tools import TOOLS, answers, tasks
from datapipe.manifest.plain import require

Rows = Annotated[
    Path, typer.Argument(metavar="FILE", help="Rows of issues, relabel or plan-audit (.parquet).")
]


def send(
    file: Rows,
    *,
    to: Annotated[str, typer.Option(metavar="TOOL", help="label-studio or argilla.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write (.json).")
    ] = None,
) -> None:
    """Write rows as tasks of a labelling tool.

    Args:
        file: Rows with `row_id`.
        to: The tool.
        output: Where; None prints.

    Raises:
        DeclarationError: There is no such tool.
        Malformed: The rows cannot be read.

    Example:
        >>> send.__name__
        'send'
    """
    if to not in TOOLS:
        raise DeclarationError(
            f"there is no tool {to!r}", code="DP-USE-249", hint=nearest(to, TOOLS)
        )
    try:
        require(existing(file))
        frame = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Malformed(
            f"{file.name} cannot be read",
            code="DP-USE-250",
            hint="write the rows with -o x.parquet",
        ) from error
    tool: Any = to
    made = tasks(frame, tool)
    if output is None:
        out_json(made)
        return
    output.write_text(json.dumps(made), "utf-8")
    out(plain(f"{len(made):,} tasks written to {output}"))


def take_in(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The export of the tool.")],
    *,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Read what annotators said in a tool's export.

    Args:
        file: The export.
        output: Where the answers are written.
        as_json: Whether they are printed as JSON.

    Example:
        >>> take_in.__name__
        'take_in'
    """
    known_format(output)
    made = answers(existing(file))
    if output is not None:
        write_table(made, output)
    if as_json:
        out_json({"answers": made.to_dicts()})
        return
    people = made["annotator"].n_unique()
    out(plain(f"{made.height:,} answers of {people:,} annotators"))
    out("join them: labels aggregate FILE --item row_id --annotator annotator --answer label")
