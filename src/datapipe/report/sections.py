# SPDX-License-Identifier: Apache-2.0
"""The sections of the report, from the verdict down to what was not checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from datapipe.core.estimate import Estimate
from datapipe.core.roles import ORDINAL_BITS
from datapipe.report import figures
from datapipe.report.facts import Facts, Line, estimate_of
from datapipe.report.markup import Html, join, picture, table, tag, verdict

SAYS = {
    "clean": "Nothing stands against using these rows.",
    "not_evaluated": "Something that matters could not be evaluated; that is not a pass.",
    "suspect": "Usable with care: read the findings below.",
    "fail": "Do not train on these rows as they are.",
}
GALLERY = 24


def banner(facts: Facts) -> Html:
    """The verdict, and why in one line.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> # banner(facts)
    """
    run = facts.run
    name = str(run["verdict"] or "not_evaluated")
    worst = [f["says"] for f in facts.findings if f["verdict"] == name and name != "clean"][:2]
    words = {
        "clean": "PASS",
        "suspect": "SUSPECT",
        "fail": "FAIL",
        "not_evaluated": "NOT EVALUATED",
    }
    head = tag("h1", f"{run['pipeline']}")
    state = f"run {run['run_id']} · seed {run['seed']} · {run['state']} · {str(run['started_at'])[:19]} UTC"
    says = tag("div", tag("p", SAYS[name]), *(tag("p", w, kind="soft") for w in worst))
    return join(
        [
            head,
            tag("p", state, kind="soft"),
            tag("div", tag("strong", words[name]), says, kind=f"banner {name}"),
        ]
    )


def tiles(facts: Facts) -> Html:
    """The handful of figures people look for first.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> # tiles(facts)
    """
    read = sum(int(s["rows"]) for s in facts.sources)
    aside = sum(int(d["rows"]) for d in facts.dropped)
    left = int(facts.steps[-1]["rows_out"]) if facts.steps else 0
    left = left or read - aside
    made = [
        _tile(f"{left:,}", "rows left"),
        _tile(f"{aside:,}", f"set aside of {read:,} rows read"),
    ]
    for kind, name in (
        ("labels.noise", "label noise"),
        ("synthetic.declared", "declared synthetic"),
    ):
        newest = [f for f in facts.findings if f["kind"] == kind][-1:]
        made.extend(_tile(_percent(estimate_of(f)), name) for f in newest)
    if facts.privacy:
        spent = sum(float(p["epsilon"]) for p in facts.privacy)
        made.append(_tile(f"ε {spent:.3g}", f"privacy spent at δ = {facts.privacy[-1]['delta']:g}"))
    signed = len([s for s in facts.sources if s["trust"] == "verified"])
    made.append(_tile(f"{signed} of {len(facts.sources)}", "sources with a verified signature"))
    return tag("div", *made, kind="tiles")


def lineage(facts: Facts) -> Html:
    """Sources, steps, models and exports as a picture.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> # lineage(facts)
    """
    nodes: list[figures.Node] = []
    edges: list[tuple[str, str]] = []
    for source in facts.sources:
        state = "source" if source["trust"] == "verified" else "unsigned"
        detail = f"{int(source['rows']):,} rows · {source['trust']}"
        nodes.append(figures.Node(f"s{source['source_no']}", str(source["name"]), detail, state, 0))
    before = [n.key for n in nodes]
    layer = 1
    groups: dict[int, list[Line]] = {}
    for step in facts.steps:
        if step["shape"] != "read":
            groups.setdefault(int(step["branch_group"]), []).append(step)
    for group in groups.values():
        keys = []
        for step in group:
            keys.append(str(step["step_id"]))
            nodes.append(_step_node(step, layer))
        edges += [(a, b) for a in before for b in keys]
        made = [k for k, s in zip(keys, group, strict=True) if not _ends(s)]
        before = made or before
        layer += 1
    nodes += _made(facts, layer, edges)
    drawn = figures.lineage(nodes, edges, title="Lineage of the run, sources on the left")
    caption = tag(
        "figcaption",
        "Green: signature verified. Dashed: unsigned. Red: the gate said no. Blue: models, exports.",
    )
    return join([tag("h2", "Lineage"), tag("figure", caption, Html(drawn))])


def findings(facts: Facts) -> Html:
    """Every finding with its interval, and the score of every row that was looked at.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> # findings(facts)
    """
    shares = [
        (f["kind"], estimate_of(f), f["verdict"])
        for f in facts.findings
        if f["unit"] == "" and f["high"] is not None and f["high"] <= 1
    ]
    drawn = figures.intervals(shares, title="Shares with their 95 % intervals")
    rows = [
        [
            verdict(f["verdict"]),
            tag("code", f["kind"]),
            f["says"],
            _shown(estimate_of(f)),
            _p(f["p_value"]),
            _p(f["q_value"]),
        ]
        for f in facts.findings
    ]
    head = ["verdict", "finding", "says", "measure [95 %]", "p", "q"]
    parts: list[object] = [tag("h2", "Findings")]
    if drawn:
        parts.append(
            tag("figure", tag("figcaption", "Shares with their 95 % intervals"), Html(drawn))
        )
    parts.append(table(head, rows, numbers=(4, 5)))
    parts.extend(_scores(facts, finding) for finding in facts.findings)
    return join(parts)


def gallery(facts: Facts) -> Html:
    """The rows most worth looking at, with their picture where there is one.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> # gallery(facts)
    """
    parts: list[object] = []
    for finding in facts.findings:
        rows = facts.rows_of(finding)
        if rows is None or finding["family" if "family" in finding else "kind"] == "":
            continue
        top = rows.filter("flagged").sort("score", descending=True, nulls_last=True).head(GALLERY)
        if not top.height or finding["kind"].startswith(("provenance.", "synthetic.", "balance.")):
            continue
        parts.append(tag("h3", f"{finding['kind']}: the {top.height} rows with the highest score"))
        parts.append(tag("div", *_cards(facts, finding, top), kind="gallery"))
    return join([tag("h2", "Rows worth a look"), *parts]) if parts else Html("")


def dropped(facts: Facts) -> Html:
    """Where rows went, by step and reason.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> # dropped(facts)
    """
    merged: dict[tuple[str, str], int] = {}
    for line in facts.dropped:
        key = (str(line["stage"]), _reason(str(line["reason"])))
        merged[key] = merged.get(key, 0) + int(line["rows"])
    rows = [[tag("code", stage), reason, f"{n:,}"] for (stage, reason), n in merged.items()]
    asked = tag(
        "p", "Ask for any of them: ", tag("code", "datapipe why SOURCE:ORDINAL"), kind="soft"
    )
    return join(
        [
            tag("h2", "Rows set aside"),
            table(["stage", "reason", "rows"], rows[:40], numbers=(2,)),
            asked,
        ]
    )


def training(facts: Facts) -> Html:
    """Models, privacy and exports.

    Args:
        facts: The run.

    Returns:
        The markup; empty when nothing was trained.

    Example:
        >>> # training(facts)
    """
    if not facts.models:
        return Html("")
    lines = [
        (m["name"], _measure(m, "accuracy"), "") for m in facts.models if _measure(m, "accuracy")
    ]
    drawn = figures.intervals(
        [(n, e, k) for n, e, k in lines if e is not None], title="Accuracy of the models"
    )
    rows = [
        [
            m["name"],
            _shown(_measure(m, "accuracy")),
            f"{int(m['bytes']):,}",
            tag("code", str(m["model_id"])[7:23]),
        ]
        for m in facts.models
    ]
    parts: list[object] = [
        tag("h2", "Models"),
        tag("figure", tag("figcaption", "Held-out accuracy, 95 % intervals"), Html(drawn)),
    ]
    parts.append(table(["model", "accuracy", "bytes", "sha256"], rows, numbers=(2,)))
    for model in facts.models:
        points = _epsilon_points(model["facts"])
        if points:
            limit = model["facts"].get("epsilon_target") or model["facts"].get("epsilon")
            curve = figures.curve(points, title="Privacy spent by step", limit=limit)
            parts.append(
                tag(
                    "figure",
                    tag("figcaption", f"{model['name']}: ε spent by step, and its limit"),
                    Html(curve),
                )
            )
    if facts.exports:
        parts.append(tag("h3", "Exports, reopened in a clean process"))
        parts.append(_exports(facts))
    return join(parts)


def provenance(facts: Facts) -> Html:
    """Sources and who answers for them.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> # provenance(facts)
    """
    head = ["no", "source", "origin", "licence", "rows", "synthetic", "signature", "digest"]
    rows = [
        [
            s["source_no"],
            s["name"],
            s["origin"] or "not recorded",
            s["licence"] or "not recorded",
            f"{int(s['rows']):,}",
            {True: "declared", False: "declared not", None: "not recorded"}[s["synthetic"]],
            s["trust"],
            tag("code", str(s["digest"])[7:19]),
        ]
        for s in facts.sources
    ]
    signed = [
        [
            tag("code", str(a["digest"])[7:23]),
            a["predicate_type"],
            ", ".join(str(k)[:16] for k in a["keyids"]),
        ]
        for a in facts.attestations
    ]
    return join(
        [
            tag("h2", "Provenance"),
            table(head, rows, numbers=(0, 4)),
            tag("h3", "Signed statements"),
            table(["sha256", "says", "key ids"], signed),
        ]
    )


def steps(facts: Facts) -> Html:
    """What each step did, with which code.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> # steps(facts)
    """
    rows = [
        [
            s["position"],
            tag("code", s["stage"]),
            s["version"],
            f"{int(s['rows_in']):,}",
            f"{int(s['rows_out']):,}",
            f"{int(s['rows_aside']):,}",
            "reused" if s["reused_from"] else f"{float(s['seconds']):.2f} s",
            tag("code", str(s["code_digest"])[7:15]),
        ]
        for s in facts.steps
    ]
    head = ["", "stage", "version", "rows in", "rows out", "set aside", "time", "code"]
    env = ", ".join(f"{k} {v}" for k, v in sorted(dict(facts.run["environment"]).items()))
    again = f"datapipe run PIPELINE.py --seed {facts.run['seed']}"
    return join(
        [
            tag("h2", "Steps and environment"),
            table(head, rows, numbers=(0, 3, 4, 5, 6)),
            tag("p", f"Environment: {env}", kind="soft"),
            tag("p", "Again, with the same bytes: ", tag("code", again), kind="soft"),
        ]
    )


def unchecked(facts: Facts) -> Html:
    """What was not evaluated, and why.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> # unchecked(facts)
    """
    rows = [
        [tag("code", f["kind"]), f["says"], f["remedy"]]
        for f in facts.findings
        if f["verdict"] == "not_evaluated"
    ]
    return join([tag("h2", "Not checked, and why"), table(["finding", "why", "remedy"], rows)])


def _tile(figure: str, name: str) -> Html:
    return tag("div", tag("b", figure), tag("span", name), kind="tile")


def _percent(e: Estimate) -> str:
    if math.isnan(e.value):
        return f"within {e.low:.0%}–{e.high:.0%}"
    if e.low == e.high:
        return f"{e.value:.1%}"
    return f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}]"


def _shown(e: Estimate | None) -> Html:
    if e is None:
        return Html("")
    point = "unknown" if math.isnan(e.value) else f"{e.value:.4g}"
    bounds = "" if e.low == e.high else f" [{e.low:.4g}, {e.high:.4g}]"
    unit = f" {e.unit}" if e.unit else ""
    note = tag("div", f"n = {e.n:,}, {e.method}", kind="soft")
    return join([tag("span", f"{point}{bounds}{unit}", kind="nowrap"), note])


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 1e-12" if value < 1e-12 else f"{value:.2g}"


def _step_node(step: Line, layer: int) -> figures.Node:
    aside = int(step["rows_aside"])
    detail = f"{int(step['rows_in']):,} rows" + (f", {aside:,} set aside" if aside else "")
    stopped = step["stage"] == "gate" and not step["dataset_out"]
    return figures.Node(
        str(step["step_id"]), str(step["stage"]), detail, "stopped" if stopped else "step", layer
    )


def _ends(step: Line) -> bool:
    """Whether no later step reads the rows of this one: trainers and exports pass them on."""
    return str(step["stage"]).startswith(("train.", "export."))


def _made(facts: Facts, layer: int, edges: list[tuple[str, str]]) -> list[figures.Node]:
    nodes = []
    for model in facts.models:
        acc = _measure(model, "accuracy")
        detail = f"accuracy {acc.value:.3f}" if acc else f"{int(model['bytes']):,} bytes"
        nodes.append(
            figures.Node(str(model["model_id"]), str(model["name"]), detail, "model", layer)
        )
        edges.append((str(model["step_id"]), str(model["model_id"])))
    for export in facts.exports:
        detail = f"{int(export['bytes']):,} bytes"
        nodes.append(
            figures.Node(str(export["export_id"]), str(export["name"]), detail, "export", layer + 1)
        )
        parents = {str(m["model_id"]) for m in facts.models}
        origin = str(export["model"]) if str(export["model"]) in parents else str(export["step_id"])
        edges.append((origin, str(export["export_id"])))
    return nodes


def _scores(facts: Facts, finding: Line) -> Html:
    """The scores behind a finding, folded away."""
    rows = facts.rows_of(finding)
    if rows is None:
        return Html("")
    known = rows.filter(pl.col("score").is_finite())
    if known.height < 20 or known["score"].n_unique() < 5:
        return Html("")
    low, high = float(known["score"].min()), float(known["score"].max())  # type: ignore[arg-type]  # finite floats
    edges = [low + (high - low) * i / 40 for i in range(41)]
    place = ((pl.col("score") - low) / ((high - low) or 1) * 40).floor().clip(0, 39).cast(pl.Int64)
    counted = known.group_by(place.alias("bin"), "flagged").len().to_dicts()
    plain, marked = [0] * 40, [0] * 40
    for line in counted:
        (marked if line["flagged"] else plain)[int(line["bin"])] += int(line["len"])
    drawn = figures.histogram(plain, marked, edges, title=f"Scores of {finding['kind']}")
    n = sum(marked)
    caption = f"{finding['kind']}: scores of {known.height:,} rows, {n:,} flagged in red"
    return tag("details", tag("summary", caption), tag("figure", Html(drawn)))


def _cards(facts: Facts, finding: Line, top: pl.DataFrame) -> list[Html]:
    ids = top["row_id"].to_list()
    images = facts.cells(str(finding["step_id"]), "image", ids)
    labels = facts.cells(str(finding["step_id"]), "label", ids)
    cards = []
    for line in top.to_dicts():
        row = int(line["row_id"])
        name = f"{row >> ORDINAL_BITS}:{row & ((1 << ORDINAL_BITS) - 1)}"
        parts: list[object] = [_image(images.get(row), name)]
        parts.append(tag("div", f"row {name}", kind="mono"))
        if row in labels:
            parts.append(tag("div", f"given {labels[row]}"))
        if line["suggested"] is not None:
            parts.append(tag("div", f"suggested {line['suggested']}"))
        parts.append(tag("div", f"score {line['score']:.3g}", kind="soft"))
        cards.append(tag("div", *parts, kind="card"))
    return cards


def _image(pixels: Any, name: str) -> Html:
    if isinstance(pixels, bytes):
        pixels = list(pixels)
    if not isinstance(pixels, list) or not pixels:
        return Html("")
    side = math.isqrt(len(pixels))
    return (
        picture(pixels, side, side, alt=f"row {name}") if side * side == len(pixels) else Html("")
    )


def _reason(reason: str) -> str:
    """A reason without the row it names, so that equal reasons are counted together."""
    return " ".join("…" if ":" in w and w.replace(":", "").isdigit() else w for w in reason.split())


def _measure(line: Line, name: str) -> Estimate | None:
    form = dict(line["measures"] or {}).get(name)
    return None if form is None else Estimate.from_json(form)


def _epsilon_points(facts: Mapping[str, Any]) -> list[tuple[float, float]]:
    curve = facts.get("epsilon_by_step") or facts.get("epsilon_curve") or []
    return [(float(x), float(y)) for x, y in curve]


def _exports(facts: Facts) -> Html:
    rows = []
    for export in facts.exports:
        told = dict(export["facts"] or {})
        dtypes = ", ".join(
            f"{k} {v:,} B"
            for k, v in dict(told.get("dtypes") or told.get("bytes_by_dtype") or {}).items()
        )
        change = _measure(export, "accuracy_change") or _measure(export, "accuracy")
        rows.append(
            [
                export["name"],
                f"{int(export['bytes']):,}",
                dtypes,
                _shown(change),
                tag("code", str(export["export_id"])[7:19]),
            ]
        )
    return table(
        ["export", "bytes", "weights by type", "accuracy change", "sha256"], rows, numbers=(1,)
    )
