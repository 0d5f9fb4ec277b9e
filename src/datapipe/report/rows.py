# SPDX-License-Identifier: Apache-2.0
"""The sections about rows: those worth a look, the labels they confuse, classes, rows set aside."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.core.roles import ORDINAL_BITS, ROW_ID
from datapipe.features.images import image_shape
from datapipe.report import figures
from datapipe.report.facts import Cells, Facts, Line
from datapipe.report.markup import Html, code, figure, join, picture, table, tag
from datapipe.report.wording import number, row_name, said

GALLERY = 18
MOST_GALLERIES = 6
MOST_BYTES = 120_000
"""Of all galleries together, so that the page stays a page."""
MOST_SIDE = 48
MOST_TEXT = 140
MOST_CONFUSED = 20
NOT_SHOWN = ("provenance", "ingest", "balance", "gate")
"""Families that flag whole sources or groups: one row of them says nothing."""
ROW_NAME = re.compile(r"\b(\d{1,8}):(\d{1,13})\b")


def gallery(facts: Facts) -> Html:
    """The rows most worth looking at, with their picture or text where they may be shown.

    Args:
        facts: The run.

    Returns:
        The markup; empty where no row was flagged.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> gallery(gather(small_run().store))
        ''
    """
    parts: list[Html] = []
    room = MOST_BYTES
    for finding, top, flagged in _flagged(facts):
        cards = _cards(facts, finding, top)
        while cards and sum(map(len, cards)) > room:
            cards.pop()
        if not cards:
            continue
        room -= sum(map(len, cards))
        words = f"{finding['kind']}: {len(cards)} of {flagged:,} rows flagged, highest score first"
        parts += [tag("h3", words), tag("div", *cards, kind="gallery")]
    if not parts:
        return Html("")
    if facts.personal:
        note = "These rows belong to persons (role subject): what they hold is not shown."
        parts.insert(0, tag("p", note, kind="soft"))
    asked = tag("p", "All of them: ", tag("code", "datapipe sql 'from row_findings'"), kind="soft")
    return join([tag("h2", "Rows worth a look"), *parts, asked])


def confusion(facts: Facts) -> Html:
    """Which given labels the flagged rows should rather have had.

    Args:
        facts: The run.

    Returns:
        The markup; empty where no label was suggested.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> confusion(gather(small_run().store))
        ''
    """
    for finding in reversed(facts.findings):
        if str(finding["kind"]).startswith("labels."):
            pairs = _pairs(facts, finding)
            if pairs:
                return _heat(finding, pairs)
    return Html("")


def classes(facts: Facts) -> Html:
    """Rows of each class, as read and as left.

    Args:
        facts: The run.

    Returns:
        The markup; empty where there are no classes.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> classes(gather(small_run().store))
        ''
    """
    digests = [d for s in facts.steps for d in (s["dataset_in"], s["dataset_out"]) if d]
    if not digests:
        return Html("")
    before, after = facts.labels_in(str(digests[0])), facts.labels_in(str(digests[-1]))
    if len(before) < 2 or not after:
        return Html("")
    names = _in_order(before)
    n = sum(after.values())
    shares = {name: Estimate.rate(after.get(name, 0), n) for name in names}
    spans = [(shares[c].low * n, shares[c].high * n) for c in names]
    changed = before != after
    caption = "Rows of each class with the 95 % interval of its share"
    if changed:
        caption += "; the outline is what was read"
    drawn = figures.bars(
        names,
        [after.get(c, 0) for c in names],
        title=caption,
        before=[before[c] for c in names] if changed else (),
        spans=spans,
    )
    rows = [[c, f"{before[c]:,}", f"{after.get(c, 0):,}", said(shares[c])] for c in names]
    head = ["class", "rows read", "rows left", "share of what is left [95 %]"]
    data = table(head, rows, numbers=(1, 2))
    return join([tag("h2", "Classes"), figure(caption, drawn, data)])


def dropped(facts: Facts) -> Html:
    """Where rows went, by step and reason.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> "left out by" in dropped(gather(small_run().store))
        True
    """
    rows = [[code(d["stage"]), d["reason"], f"{int(d['rows']):,}"] for d in facts.dropped]
    words = "Nothing is deleted. Why a row was set aside: "
    asked = tag("p", words, tag("code", "datapipe why SOURCE:ORDINAL"), kind="soft")
    shown = table(["stage", "reason", "rows"], rows, numbers=(2,))
    return join([tag("h2", "Rows set aside"), shown, asked])


def _flagged(facts: Facts) -> list[tuple[Line, pl.DataFrame, int]]:
    """The newest look at each kind that flagged rows: its top rows and how many there are."""
    chosen: dict[str, tuple[Line, pl.DataFrame, int]] = {}
    for finding in reversed(facts.findings):
        kind = str(finding["kind"])
        if kind in chosen or kind.partition(".")[0] in NOT_SHOWN or kind == "synthetic.declared":
            continue
        rows = facts.rows_of(finding)
        if rows is None or len(chosen) >= MOST_GALLERIES:
            continue
        flagged = rows.filter("flagged")
        count = int(flagged.select(pl.len()).collect().item())
        if count:
            order = pl.col("score").fill_nan(None)
            top = flagged.sort(
                order, pl.col("row_id"), descending=[True, False], nulls_last=True
            ).head(GALLERY)
            chosen[kind] = (finding, top.collect(), count)
    return list(reversed(chosen.values()))


def _cards(facts: Facts, finding: Line, top: pl.DataFrame) -> list[Html]:
    lines = top.to_dicts()
    twin = {int(x["row_id"]): _named(str(x["reason"] or "")) for x in lines}
    ids = {i for i in [*twin, *twin.values()] if i is not None}
    cells = facts.cells(str(finding["step_id"]), sorted(ids))
    cards = []
    for line in lines:
        row = int(line["row_id"])
        name = row_name(row, ORDINAL_BITS)
        other = twin[row]
        held = cells.get(row, Cells())
        parts: list[object] = [_shown(held, name)]
        if other is not None and other in cells:
            parts = [tag("div", *parts, _shown(cells[other], row_name(other)), kind="pair")]
        parts.append(tag("div", f"row {name}", kind="mono"))
        if other is not None:
            parts.append(tag("div", f"beside {row_name(other)}", kind="mono"))
        if held.label is not None:
            parts.append(tag("div", "given ", tag("b", held.label[:40])))
        if line["suggested"] is not None and not facts.personal:
            parts.append(tag("div", "suggested ", tag("b", str(line["suggested"])[:40])))
        if line["score"] is not None:
            parts.append(tag("div", f"score {number(float(line['score']))}", kind="soft"))
        wide = "card wide" if held.text is not None and held.pixels is None else "card"
        cards.append(tag("div", *parts, kind=wide))
    return cards


def _shown(cells: Cells, name: str) -> Html:
    """The picture or the beginning of the text of a row."""
    levels = _levels(cells.pixels)
    if levels is not None:
        return picture(levels, alt=f"row {name}")
    if cells.text is None:
        return Html("")
    cut = cells.text if len(cells.text) <= MOST_TEXT else cells.text[: MOST_TEXT - 1] + "…"
    return tag("p", cut, kind="excerpt")


def _levels(pixels: Any) -> NDArray[np.float64] | None:
    """Pixels as a picture no side of which is longer than a thumbnail; None for no picture."""
    if pixels is None:
        return None
    if isinstance(pixels, bytes):
        flat = np.frombuffer(pixels, np.uint8).astype(np.float64)
    else:
        flat = np.array([np.nan if p is None else p for p in _flat(pixels)], np.float64)
    height, width, channels = image_shape(flat.size)
    if min(height, width) < 2:
        return None
    grid = flat.reshape((height, width) if channels == 1 else (height, width, channels))
    every = -(-max(height, width) // MOST_SIDE)
    return grid[::every, ::every]


def _flat(pixels: Sequence[Any]) -> list[Any]:
    while pixels and isinstance(pixels[0], list):
        pixels = [p for line in pixels for p in line]
    return list(pixels)


def _named(reason: str) -> int | None:
    """The other row that a reason names."""
    found = ROW_NAME.search(reason)
    return None if found is None else (int(found[1]) << ORDINAL_BITS) | int(found[2])


def _pairs(facts: Facts, finding: Line) -> Mapping[tuple[str, str], int]:
    """How many flagged rows of each (given, suggested) pair, counted without loading rows."""
    rows, seen = facts.rows_of(finding), facts.rows_in(facts.seen_by(str(finding["step_id"])))
    if rows is None or seen is None or len(seen[1].get("label", ())) != 1:
        return {}
    given = seen[0].select(
        pl.col(ROW_ID).alias("row_id"), pl.col(seen[1]["label"][0]).alias("given")
    )
    if given.collect_schema()["given"].is_nested():
        return {}
    flagged = rows.filter(pl.col("flagged") & pl.col("suggested").is_not_null())
    counted = (
        flagged.select("row_id", "suggested").join(given, on="row_id")
        .group_by(pl.col("given").cast(pl.String), "suggested").len()
        .sort("len", "given", "suggested", descending=[True, False, False]).head(1000).collect()
    )  # fmt: skip
    return {(str(x["given"]), str(x["suggested"])): int(x["len"]) for x in counted.to_dicts()}


def _heat(finding: Line, pairs: Mapping[tuple[str, str], int]) -> Html:
    weight: dict[str, int] = {}
    for (given, suggested), n in pairs.items():
        weight[given] = weight.get(given, 0) + n
        weight[suggested] = weight.get(suggested, 0) + n
    kept = sorted(weight, key=lambda name: (-weight[name], name))[:MOST_CONFUSED]
    names = _in_order(kept)
    cells = [[pairs.get((given, other), 0) for other in names] for given in names]
    total = sum(pairs.values())
    caption = f"{finding['kind']}: given against suggested label of {total:,} flagged rows"
    drawn = figures.heat(names, cells, title=caption, axes=("given", "suggested"))
    rows = [
        [given, suggested, f"{n:,}", said(Estimate.rate(n, total))]
        for (given, suggested), n in list(pairs.items())[:100]
    ]
    data = table(["given", "suggested", "rows", "share [95 %]"], rows, numbers=(2,))
    return join([tag("h2", "Labels that are confused"), figure(caption, drawn, data)])


def _in_order(names: Sequence[str] | Mapping[str, int]) -> list[str]:
    """Sorted as numbers where all of them are."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)
