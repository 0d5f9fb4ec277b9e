# SPDX-License-Identifier: Apache-2.0
"""The report: one HTML file, no script, nothing loaded from outside."""

from __future__ import annotations

import errno
import os
from html import escape
from pathlib import Path
from string import Template

from datapipe import __version__
from datapipe.core.run import Run
from datapipe.errors import DeclarationError, ExecutionError
from datapipe.report import findings, lineage, models, rows, sections
from datapipe.report.facts import gather
from datapipe.report.markup import Html, join, table, tag, verdict
from datapipe.report.wording import said

ORDER = (
    sections.banner,
    sections.tiles,
    lineage.lineage,
    findings.findings,
    rows.gallery,
    rows.confusion,
    rows.classes,
    rows.dropped,
    models.training,
    sections.provenance,
    sections.steps,
    sections.unchecked,
)
"""What a report tells, from the verdict down to what was not checked."""

MOST_IN_CARD = 12


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
        DeclarationError: There is a file that is no report: it is not overwritten.
        ExecutionError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from datapipe.testing.small import small_run
        >>> target = Path(tempfile.mkdtemp()) / "report.html"
        >>> write_report(small_run().store, "", target).read_text()[:15]
        '<!doctype html>'
    """
    refuse_place(path)
    facts = gather(store, run_id)
    parts: list[Html] = [section(facts) for section in ORDER]
    if extra is not None:
        parts.insert(2, extra)
    page = Template(Path(__file__).with_name("page.html").read_text("utf-8")).substitute(
        title=escape(f"{facts.run['pipeline']} · datapipe"), body=join(parts), version=__version__
    )
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(page.encode("utf-8", "replace"))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _no_place(path, error.strerror) from error
    return path


def refuse_place(path: Path) -> None:
    """Refuse a path that no report could be written to, before the run that it would tell of.

    Args:
        path: Where a report is to go.

    Raises:
        DeclarationError: There is a file that is no report: it is not overwritten.
        ExecutionError: It is a folder, or its folder is missing or may not be written to.

    Example:
        >>> refuse_place(Path("report.html"))
    """
    if path.is_dir():
        raise _no_place(path, os.strerror(errno.EISDIR))
    if not path.parent.is_dir():
        raise _no_place(path, os.strerror(errno.ENOENT))
    if not os.access(path.parent, os.W_OK):
        raise _no_place(path, os.strerror(errno.EACCES))
    if path.exists() and not _is_page(path):
        raise DeclarationError(
            f"{path} is there already and is no report; it is not overwritten",
            code="DP-USE-101",
            hint="choose another path with -o, such as report.html",
        )


def _is_page(path: Path) -> bool:
    """Whether a file is empty or a page of HTML, as every report is."""
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip().lower()
    except OSError:
        return False
    return not start or start.startswith((b"<!doctype html", b"<html"))


def _no_place(path: Path, why: str | None) -> ExecutionError:
    return ExecutionError(
        f"the report cannot be written to {path}: {why}",
        code="DP-EXEC-060",
        hint="choose another path with -o",
    )


def run_card(run: Run) -> Html:
    """A run as a notebook shows it: verdict, the findings that count, steps.

    Args:
        run: A finished run.

    Returns:
        The markup.

    Example:
        >>> from datapipe.testing.small import small_run
        >>> "text.long_enough" in run_card(small_run())
        True
    """
    newest = list({f.kind: f for f in run.findings}.values())
    newest.sort(key=lambda f: f.verdict == "clean")
    told = [[verdict(f.verdict), f.kind, f.says, said(f.measure)] for f in newest[:MOST_IN_CARD]]
    steps = [[s.stage, f"{s.rows_in:,}", f"{s.rows_out:,}", f"{s.rows_aside:,}"] for s in run.steps]
    more = len(newest) - MOST_IN_CARD
    return join(
        [
            tag("p", tag("b", run.pipeline), f" run {run.run_id} ", verdict(run.verdict)),
            table(["verdict", "finding", "says", "measure [interval]"], told),
            *([tag("p", f"and {more} more findings: run.findings")] if more > 0 else []),
            table(["stage", "rows in", "rows out", "set aside"], steps, numbers=(1, 2, 3)),
        ]
    )
