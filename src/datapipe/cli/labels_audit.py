# SPDX-License-Identifier: Apache-2.0
"""`datapipe labels plan-audit` and `noise-rate`: rows for experts, and what their word comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from datapipe.cli.findings import figure
from datapipe.cli.labels_files import (
    File,
    Image,
    Label,
    Output,
    Probs,
    Text,
    known_format,
    write_table,
)
from datapipe.cli.labels_judging import by_row, head, judged, line
from datapipe.cli.options import STORE, Json, Seed, Store, existing
from datapipe.cli.terminal import out, out_json, plain
from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError, Malformed, SchemaMismatch, nearest
from datapipe.manifest.plain import require
from datapipe.measure.audit import (
    AuditPlan,
    ExpertErrors,
    expert_errors,
    final_word,
    is_rate,
    noise_rate,
    plan_audit,
)

DESIGNS = ("stratified", "difference")
PLANNED = ("row_id", "given", "score", "stratum", "stratum_rows", "stratum_score", "design")
"""What an audit file must still hold when it comes back."""

Audit = Annotated[
    Path | None,
    typer.Option("--audit", metavar="FILE", help="The plan with the experts' labels filled in."),
]
Claim = Annotated[
    float | None, typer.Option("--claim", metavar="RATE", help="Is the noise rate this one?")
]


def plan(
    file: File,
    *,
    label: Label,
    rows: Annotated[
        int, typer.Option("--rows", "-m", "--budget", metavar="M", min=2, help="Rows to check.")
    ] = 200,
    probs: Probs = "",
    text: Text = "",
    image: Image = "",
    design: Annotated[str, typer.Option(metavar="NAME", help="stratified or difference.")] = (
        "stratified"
    ),
    output: Output = None,
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 0,
) -> None:
    """Choose the rows that experts shall check and write them with room for their labels.

    Args:
        file: The data.
        label: Column of the labels.
        rows: How many rows experts will check.
        probs: Columns of out-of-fold probabilities.
        text: Column of a text.
        image: Column of pixels.
        design: `stratified` or `difference`.
        output: Where the plan is written.
        as_json: Whether one JSON object is printed.
        store: Folder of the store.
        seed: Draws the rows.

    Raises:
        DeclarationError: There is no such design.

    Example:
        >>> plan.__name__
        'plan'
    """
    if design not in DESIGNS:
        raise DeclarationError(
            f"there is no design {design!r}", code="DP-USE-043", hint=nearest(design, DESIGNS)
        )
    known_format(output)
    run = judged(file, label, probs, text, image, seed=seed, store=store)
    every = by_row(run)
    rng = np.random.default_rng(seed)
    made = plan_audit(every["score"].to_numpy(), rows, rng, design=design)  # type: ignore[arg-type]  # checked above
    chosen = every[made.rows.tolist()].select("row_id", "ordinal", "given", "suggested", "score")
    none = pl.lit(None, dtype=pl.String)
    chosen = chosen.with_columns(
        stratum=pl.Series(made.stratum),
        stratum_rows=pl.Series(made.sizes[made.stratum]),
        stratum_score=pl.Series(made.expected[made.stratum]),
        design=pl.lit(made.design),
        expert=none,
        expert_2=none,
        adjudicated=none,
    )
    if output is not None:
        write_table(chosen, output)
    if as_json:
        out_json({**head(run), "design": design, "planned": chosen.to_dicts()})
        return
    out(plain(f"{chosen.height:,} of {every.height:,} rows planned in {made.sizes.size} strata"))
    out(
        "fill in `expert` with the right label (`expert_2` and `adjudicated` for two experts), then"
    )
    out("run: datapipe labels noise-rate FILE --label COL --audit PLAN")


def rate(
    file: File,
    *,
    label: Label,
    probs: Probs = "",
    text: Text = "",
    image: Image = "",
    audit: Audit = None,
    claim: Claim = None,
    output: Output = None,
    as_json: Json = False,
    store: Store = STORE,
    seed: Seed = 0,
) -> None:
    """How many labels are wrong: a bracket without an audit, an estimate with one.

    Args:
        file: The data.
        label: Column of the labels.
        probs: Columns of out-of-fold probabilities.
        text: Column of a text.
        image: Column of pixels.
        audit: The plan that came back from the experts.
        claim: A rate that somebody claims.
        output: Where the one line of the result is written.
        as_json: Whether one JSON object is printed.
        store: Folder of the store.
        seed: Deals the folds.

    Example:
        >>> rate.__name__
        'rate'
    """
    known_format(output)
    run = judged(file, label, probs, text, image, seed=seed, store=store)
    told = head(run)
    measure = run.finding("labels.noise").measure
    if audit is not None:
        measure, experts = audited(audit, by_row(run))
        told |= {"bracket": told["noise_rate"], "noise_rate": measure.to_json(), "audited": True}
        told["experts"] = {"missed": experts.missed, "invented": experts.invented, "n": experts.n}
    if claim is not None:
        answer = is_rate(measure, claim)
        said = answer.answer if audit is not None or answer.answer == "no" else "cannot tell"
        told["is_rate"] = {"claimed": claim, "answer": said, "needed": answer.needed}
    if output is not None:
        write_table(pl.DataFrame([told["noise_rate"]]), output)
    if as_json:
        out_json(told)
        return
    if audit is None:
        out(line(run))
    else:
        out(plain(f"audited noise rate {figure(measure)} ({measure.method})"))
    if claim is not None:
        out(plain(f"is it {claim:g}? {told['is_rate']['answer']}"))


def audited(path: Path, every: pl.DataFrame) -> tuple[Estimate, ExpertErrors]:
    """The noise rate from a plan that came back.

    Args:
        path: The plan with the experts' labels.
        every: All rows with `row_id` and `given`, to see that the plan is of this file.

    Returns:
        The rate, and how often the experts err together.

    Raises:
        SchemaMismatch: The plan lacks a column, or is of another file.
        Malformed: No row was checked, or a decision is missing.

    Example:
        >>> audited.__name__
        'audited'
    """
    frame = _read(existing(path))
    lost = [c for c in PLANNED if c not in frame.columns]
    if lost:
        raise SchemaMismatch(
            f"{path.name}: the column {lost[0]!r} of the plan is not there",
            hint="keep the columns of plan-audit and fill in `expert`",
        )
    frame = frame.with_columns(pl.col("row_id").cast(pl.UInt64), pl.col("given").cast(pl.String))
    held = every.select("row_id", pl.col("given").alias("held"))
    both = frame.join(held, on="row_id", how="left", maintain_order="left")
    if both.filter(pl.col("held").is_null() | (pl.col("held") != pl.col("given"))).height:
        raise SchemaMismatch(
            f"{path.name}: the plan's labels are not those of the file",
            hint="audit the file that was planned, unchanged",
        )
    first, second = _says_wrong(frame, "expert"), _says_wrong(frame, "expert_2")
    whole = _says_wrong(frame, "wrong") if "wrong" in frame.columns else first
    done = whole.is_not_null()
    if not done.any():
        raise Malformed(
            f"{path.name}: no row was checked",
            code="DP-USE-244",
            hint="fill in `expert` with the right label of each row",
        )
    frame, wrong, second = frame.filter(done), whole.filter(done), second.filter(done)
    experts = ExpertErrors(0.0, 0.0, 0)
    answers = wrong.to_numpy()
    if second.len() and not second.is_null().any():
        third = _says_wrong(frame, "adjudicated")
        differs = answers != second.to_numpy()
        if third.filter(pl.Series(differs)).is_null().any():
            raise Malformed(
                f"{path.name}: the experts differ and nobody decided",
                code="DP-USE-245",
                hint="fill in `adjudicated` where `expert` and `expert_2` differ",
            )
        word = third.fill_null(value=False).to_numpy()
        experts = expert_errors(answers, second.to_numpy(), word)
        answers = final_word(answers, second.to_numpy(), word)
    table = frame.group_by("stratum").agg(
        pl.col("stratum_rows").first(), pl.col("stratum_score").first()
    )
    table = table.sort("stratum").with_row_index("place")
    number = frame.select("stratum").join(table, on="stratum", how="left", maintain_order="left")
    plan_back = AuditPlan(
        np.arange(frame.height),
        number["place"].to_numpy().astype(np.int64),
        table["stratum_rows"].to_numpy().astype(np.int64),
        table["stratum_score"].to_numpy().astype(np.float64),
        frame["design"][0],
    )
    scores = frame["score"].to_numpy().astype(np.float64)
    known = experts if experts.n else None
    return noise_rate(plan_back, np.asarray(answers, bool), scores=scores, experts=known), experts


def _says_wrong(frame: pl.DataFrame, column: str) -> pl.Series:
    """Whether somebody calls the given label wrong; null where nobody looked."""
    if column not in frame.columns:
        return pl.Series(column, [None] * frame.height, dtype=pl.Boolean)
    if column == "wrong":
        return frame[column].cast(pl.Boolean)
    said = pl.col(column).cast(pl.String).str.strip_chars()
    given = pl.col("given")
    return frame.select(pl.when(said != "").then(said != given).alias(column))[column]


def _read(path: Path) -> pl.DataFrame:
    require(path)
    try:
        if path.suffix.lower() == ".csv":
            return pl.read_csv(path, infer_schema_length=None)
        if path.suffix.lower() == ".jsonl":
            return pl.read_ndjson(path)
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Malformed(
            f"{path.name} cannot be read as a table",
            code="DP-USE-246",
            hint="give the file that plan-audit wrote",
        ) from error
