# SPDX-License-Identifier: Apache-2.0
"""One run of confident learning over a file, and its rows as a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from datapipe.cli.audit_plan import Beside, reader_of
from datapipe.cli.findings import figure
from datapipe.cli.terminal import painted, plain, settle
from datapipe.core.finding import label_text
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import ROW_ID, Roles
from datapipe.core.run import Run
from datapipe.core.stage import OnFinding
from datapipe.errors import DeclarationError, Malformed, nearest
from datapipe.stages import find

KINDS = ("auto", "class", "multilabel", "tokens", "boxes", "value")


def judged(
    file: str,
    label: str,
    probs: str,
    text: str,
    image: str,
    *,
    seed: int,
    store: Path,
    action: OnFinding = "note",
    kind: str = "auto",
    classifier: str = "auto",
) -> Run:
    """Run confident learning over a file.

    With probabilities every label that confident learning would prune is an issue, as in the
    reference; without them the fitted model decides, and clean data stays clean.

    Args:
        file: The data.
        label: Column of the labels.
        probs: Columns of out-of-fold probabilities: a list column, a pattern, or names and commas.
        text: Column of a text.
        image: Column of pixels.
        seed: Deals the folds.
        store: Folder of the store.
        action: What is done with flagged rows.
        kind: What a label is: a class, a list of classes, of tokens' classes, of boxes, a value.
        classifier: What is fitted where no probabilities are given.

    Returns:
        The run.

    Raises:
        DeclarationError: There is no such kind.

    Example:
        >>> judged.__name__
        'judged'
    """
    if kind not in KINDS:
        raise DeclarationError(
            f"there is no kind {kind!r}", code="DP-USE-048", hint=nearest(kind, KINDS)
        )
    stage: Any = find("labels.confident")
    columns = tuple(c.strip() for c in probs.split(",") if c.strip())
    made = stage(probabilities=columns, on_finding=action, kind=kind, classifier=classifier)
    made = replace(made, tolerance=0.0) if columns else made
    roles = Roles.of(label=label, text=text, image=image)
    reader = reader_of(file, roles, Beside(missing_labels="quarantine"))
    run = Pipeline(Path(file).name, [reader, made]).run(seed=seed, store=store)
    settle(run)
    return run


def by_row(run: Run) -> pl.DataFrame:
    """Every row that was judged, in file order.

    Args:
        run: What `judged` gave.

    Returns:
        Columns row_id, ordinal, score, flagged, given, suggested, reason.

    Raises:
        Malformed: The labels could not be judged.

    Example:
        >>> by_row.__name__
        'by_row'
    """
    rows = run.finding("labels.issues").rows
    if rows is None:
        raise Malformed(
            run.finding("labels.noise").says,
            code="DP-USE-247",
            hint="give out-of-fold probabilities with --probs, or features to learn from",
        )
    label = run.data.roles.one("label")
    given = run.data.frame([label], row_id=True).select(
        pl.col(ROW_ID).alias("row_id"), label_text(label, run.data.types[label]).alias("given")
    )
    joined = rows.join(given, on="row_id", how="left", maintain_order="left")
    return joined.with_columns(ordinal=pl.col("row_id") % 2**40).select(
        "row_id", "ordinal", "score", "flagged", "given", "suggested", "reason"
    )


def head(run: Run) -> dict[str, Any]:
    """What every verb says first.

    Args:
        run: What `judged` gave.

    Returns:
        run_id, verdict, noise_rate, says and rows.

    Example:
        >>> head.__name__
        'head'
    """
    noise = run.finding("labels.noise")
    return {
        "run_id": run.run_id,
        "verdict": noise.verdict,
        "noise_rate": noise.measure.to_json(),
        "says": noise.says,
        "notes": {k: noise.details[k] for k in ("rows_renormalised",) if noise.details.get(k)},
        "rows": len(run.data),
    }


def set_aside(run: Run) -> str:
    """What the reader left out, in words for people.

    Args:
        run: Any run of a verb of `labels`.

    Returns:
        Empty where every row had a label.

    Example:
        >>> set_aside.__name__
        'set_aside'
    """
    lost = [f for f in run.findings if f.kind == "ingest.missing_labels"]
    return f"; {plain(lost[0].says)}: left out" if lost and lost[0].verdict != "clean" else ""


def line(run: Run) -> str:
    """The noise rate in one line for people.

    Args:
        run: What `judged` gave.

    Returns:
        Verdict, sentence and figure.

    Example:
        >>> line.__name__
        'line'
    """
    noise = run.finding("labels.noise")
    word = painted(noise.verdict.replace("_", " "), noise.verdict)
    off = noise.details.get("rows_renormalised", 0)
    note = f"; {off:,} rows of probabilities were brought back to sum 1" if off else ""
    if noise.verdict == "not_evaluated":
        return f"{word}: {plain(noise.reason)}"
    return f"{word}: {plain(noise.says)}; noise rate {figure(noise.measure)}{note}{set_aside(run)}"
