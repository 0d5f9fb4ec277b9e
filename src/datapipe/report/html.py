# SPDX-License-Identifier: Apache-2.0
"""The report: one HTML file, no script, nothing loaded from outside."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from string import Template

from datapipe import __version__
from datapipe.core.run import Run
from datapipe.errors import ExecutionError
from datapipe.report import sections
from datapipe.report.facts import gather
from datapipe.report.markup import Html, join, table, tag, verdict

ORDER = (
    sections.banner,
    sections.tiles,
    sections.lineage,
    sections.findings,
    sections.gallery,
    sections.dropped,
    sections.training,
    sections.provenance,
    sections.steps,
    sections.unchecked,
)


def write_report(store: Path, run_id: str, path: Path, *, extra: Html | None = None) -> Path:
    """Write what a run did as one self-contained file.

    Args:
        store: Folder of the store.
        run_id: The run, or its first characters; empty for the newest.
        path: Where to write.
        extra: Markup to put after the tiles, such as planted truth beside findings.

    Returns:
        The path.

    Raises:
        ExecutionError: The file cannot be written.

    Example:
        >>> # write_report(Path(".datapipe"), "", Path("report.html"))
    """
    facts = gather(store, run_id)
    parts: list[Html] = [section(facts) for section in ORDER]
    if extra is not None:
        parts.insert(2, extra)
    page = Template(Path(__file__).with_name("page.html").read_text("utf-8")).substitute(
        title=escape(f"{facts.run['pipeline']} · datapipe"), body=join(parts), version=__version__
    )
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(page, "utf-8")
        partial.replace(path)
    except OSError as error:
        raise ExecutionError(
            f"the report cannot be written to {path}: {error.strerror}",
            code="DP-EXEC-060",
            hint="choose another path with -o",
        ) from error
    return path


def run_card(run: Run) -> Html:
    """A run as a notebook shows it: verdict, findings, steps.

    Args:
        run: A finished run.

    Returns:
        The markup.

    Example:
        >>> # run_card(run)
    """
    rows = [[verdict(f.verdict), f.kind, f.says, str(f.measure)] for f in run.findings]
    return join(
        [
            tag("p", tag("b", run.pipeline), f" run {run.run_id} ", verdict(run.verdict)),
            table(["verdict", "finding", "says", "measure"], rows),
        ]
    )
