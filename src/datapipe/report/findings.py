# SPDX-License-Identifier: Apache-2.0
"""The section of findings: what stands, what was looked at again, and the scores behind them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from datapipe.core.estimate import Estimate
from datapipe.core.finding import VERDICTS
from datapipe.report import figures
from datapipe.report.facts import Facts, Line, estimate_of
from datapipe.report.markup import Html, code, figure, join, table, tag, verdict
from datapipe.report.triggers import triggers
from datapipe.report.wording import change, is_share, number, probability, said

NOT_DRAWN = ("ingest", "gate", "export", "train", "encrypted")
"""Families whose figures are counts, or have a section of their own."""
MOST_DRAWN = 16
MOST_TOLD = 120
MOST_HISTOGRAMS = 8
BINS = 40
FEWEST_SCORES = 20
HEAD = ("verdict", "finding", "says", "measure [interval]", "p", "q")


def findings(facts: Facts) -> Html:
    """Every finding with its interval, and the scores of the rows that were looked at.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> "None." in findings(gather(small_run().store))
        True
    """
    standing = sorted(facts.standing, key=lambda f: -VERDICTS.index(f["verdict"]))
    old = [f for f in facts.findings if f["finding_id"] in facts.later]
    parts: list[object] = [tag("h2", "Findings"), _shares(facts), _table(standing)]
    if old:
        words = tag("p", "A later step looked at these again; the verdict rests on that.")
        told = tag("summary", f"earlier looks, superseded: {len(old)}")
        parts.append(tag("details", told, words, _table(old, facts)))
    parts += [_forecast(f) for f in standing if f["kind"] == "synthetic.collapse"]
    parts.append(triggers(facts))
    parts += _histograms(facts)
    return join(parts)


def _forecast(finding: Line) -> Html:
    """What is left of the tail by generation, and what unseen real data costs the models more."""
    told = finding["details"]
    told = json.loads(told) if isinstance(told, str) else dict(told or {})
    curves = [c for c in (told.get("forecast"), *told.get("scenarios", ())) if c]
    curves = curves[:1] + [c for c in curves[1:] if c["plan"] != curves[0]["plan"]]
    if not curves or len(curves[0]["tail_survival"]) < 2:
        return join([])
    plan = str(curves[0]["plan"])
    unit = "nats a far row" if "rows" in told else "bits a word"
    left = f"Share of the tail that is left by generation: {plan}, and other plans"
    cost = f"What unseen real data costs more by generation ({unit}): {plan}, and other plans"
    return join([
        _courses(curves, "tail_survival", left, "left of the tail"),
        _courses(curves, "cross_entropy_change", cost, unit),
    ])  # fmt: skip


def _courses(curves: Sequence[Mapping[str, Any]], name: str, caption: str, axis: str) -> Html:
    """One figure of every plan's curve with its band, and its values as a table."""
    lines = [(str(c["plan"]), _course(c, name)) for c in curves]
    most = max(1.0, *(e.value for _, es in lines for e in es))
    drawn = figures.bands(lines, title=caption, axes=("generation", axis), most=most)
    rows = [[line, *(f"{e.value:.2f}" for e in es)] for line, es in lines]
    data = table(["plan", *(str(g) for g in range(len(lines[0][1])))], rows)
    return figure(f"{caption}; bands hold 95 % over seeds", drawn, data)


def _course(curve: Mapping[str, Any], name: str) -> list[Estimate]:
    each = zip(*(curve[name + end] for end in ("", "_low", "_high")), strict=True)
    return [Estimate(v, min(v, a), max(v, b), n=1, method="seeds") for v, a, b in each]


def _shares(facts: Facts) -> Html:
    """The newest look at each kind, with the first look below it where there were two."""
    first = {f["kind"]: f for f in reversed(facts.findings) if f["finding_id"] in facts.later}
    marks: dict[str, figures.Mark] = {}
    for f in facts.standing:
        e = estimate_of(f)
        if str(f["kind"]).partition(".")[0] in NOT_DRAWN or not is_share(e):
            continue
        if e.low == e.high or math.isnan(e.value):
            continue
        was = first.get(f["kind"])
        before = None if was is None else estimate_of(was)
        shown = before if before is not None and is_share(before) else None
        marks[f["kind"]] = figures.Mark(f["kind"], e, f["verdict"], shown)
    drawn = sorted(marks.values(), key=lambda m: -max(m.now.high, m.before.high if m.before else 0))
    drawn = drawn[:MOST_DRAWN]
    rows = [
        [code(m.label), said(m.now), said(m.before) if m.before else "–", f"{m.now.n:,}"]
        for m in drawn
    ]
    data = table(["finding", "now [interval]", "at first [interval]", "n"], rows, numbers=(3,))
    caption = "Shares of rows, each with its 95 % interval"
    if any(m.before for m in drawn):
        caption += "; the paler line below it is the first look"
    return figure(caption, figures.intervals(drawn, title=caption, from_zero=True), data)


def _table(lines: Sequence[Line], facts: Facts | None = None) -> Html:
    """Findings as a table; with the facts each says which step looked again."""
    alike: dict[tuple[str, str], int] = {}
    for f in lines:
        if f["verdict"] == "clean":
            alike[f["kind"], f["verdict"]] = alike.get((f["kind"], f["verdict"]), 0) + 1
    rows: list[list[object]] = []
    for f in lines:
        more = alike.pop((f["kind"], f["verdict"]), 0) - 1 if f["verdict"] == "clean" else 0
        if more >= 0:
            cells = [verdict(f["verdict"]), code(f["kind"]), _says(f, more, facts), _measure(f)]
            rows.append([*cells, probability(f["p_value"]), probability(f["q_value"])])
    kind = "findings old" if facts else "findings"
    shown = table(HEAD, rows[:MOST_TOLD], numbers=(4, 5), kind=kind)
    if len(rows) > MOST_TOLD:
        rest = f"and {len(rows) - MOST_TOLD} more: datapipe sql 'from findings'"
        return join([shown, tag("p", rest, kind="soft")])
    return shown


def _says(finding: Line, more: int, facts: Facts | None) -> Html:
    """The sentence, and below it how many say the same, what mends it, and who looked again."""
    notes = []
    if more:
        notes.append(f"and {more} more like it")
    if finding["remedy"] and finding["verdict"] != "clean" and facts is None:
        notes.append(f"→ {finding['remedy']}")
    if facts is not None:
        step = int(facts.later[finding["finding_id"]]["position"])
        notes.append(f"looked at again in step {step}")
    return join([finding["says"], *(tag("div", n, kind="soft") for n in notes)])


def _measure(finding: Line) -> Html:
    e, family = estimate_of(finding), str(finding["kind"]).partition(".")[0]
    if family == "gate":
        return join(
            [f"limits broken: {number(e.value)}", _note(f"findings held against them: {e.n:,}")]
        )
    shown = change(e) if family == "export" and e.low < 0 else said(e)
    return join([shown, _note(f"n = {e.n:,}, {e.method}")])


def _note(words: str) -> Html:
    return tag("div", words, kind="soft")


def _histograms(facts: Facts) -> list[Html]:
    """Scores of each kind: of the newest look that flagged something, else of the newest."""
    chosen: dict[str, tuple[bool, Html]] = {}
    for finding in facts.findings:
        kind = finding["kind"]
        if len(chosen) >= MOST_HISTOGRAMS and kind not in chosen:
            continue
        made = _scores(facts, finding)
        if made is not None and (made[0] or not chosen.get(kind, (False,))[0]):
            chosen[kind] = made
    return [drawn for _, drawn in chosen.values()]


def _scores(facts: Facts, finding: Line) -> tuple[bool, Html] | None:
    """Whether rows were flagged, and their scores as a histogram; None where it says nothing."""
    rows = facts.rows_of(finding)
    if rows is None:
        return None
    known = rows.select("score", pl.col("flagged").fill_null(value=False)).filter(
        pl.col("score").is_finite()
    )
    score = pl.col("score")
    told = known.select(
        score.min().alias("low"),
        score.max().alias("high"),
        pl.len().alias("n"),
        score.filter("flagged").min().alias("threshold"),
        score.n_unique().alias("distinct"),
    ).collect().row(0, named=True)  # fmt: skip
    if told["n"] < FEWEST_SCORES or told["distinct"] < 5:
        return None
    low, high = float(told["low"]), float(told["high"])
    width = (high - low) / BINS
    place = ((score - low) / width).floor().clip(0, BINS - 1).cast(pl.Int64)
    counted = known.group_by(place.alias("bin"), "flagged").len().collect().to_dicts()
    plain, marked = [0] * BINS, [0] * BINS
    for line in counted:
        (marked if line["flagged"] else plain)[int(line["bin"])] += int(line["len"])
    edges = [low + width * i for i in range(BINS + 1)]
    title = f"Scores of {finding['kind']}"
    drawn = figures.histogram(plain, marked, edges, title=title, threshold=told["threshold"])
    data = table(
        ["score from", "to", "rows", "flagged"],
        [
            [number(edges[i]), number(edges[i + 1]), plain[i] + marked[i], marked[i]]
            for i in range(BINS)
            if plain[i] + marked[i]
        ],
        numbers=(0, 1, 2, 3),
    )
    flagged = sum(marked)
    words = f"{finding['kind']}: scores of {told['n']:,} rows, {flagged:,} flagged"
    caption = f"{words}, in red; heights are square roots of counts"
    return flagged > 0, tag("details", tag("summary", words), figure(caption, drawn, data))
