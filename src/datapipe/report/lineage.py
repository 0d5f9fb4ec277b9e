# SPDX-License-Identifier: Apache-2.0
"""What the lineage picture of a run shows: which boxes, in which order, under which."""

from __future__ import annotations

import math
from collections.abc import Sequence

from datapipe.core.estimate import Estimate
from datapipe.report.facts import COUNTS, Facts, Line, measure_of
from datapipe.report.graph import Node, Row, draw
from datapipe.report.markup import Html, figure, join, table, tag
from datapipe.report.wording import count, percent

MADE = ("train", "export", "encrypted")
"""Families whose steps make something of the rows and pass the rows on as they are."""
MOST_SOURCES = 15
MOST_BRANCHES = 20


def lineage(facts: Facts) -> Html:
    """Sources, steps, models and exports as a picture.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> "text.long_enough" in lineage(gather(small_run().store))
        True
    """
    rows = [Row(_source_nodes(facts.sources), "frame", "sources"), *_stretches(facts)]
    drawn = draw(rows, title="Lineage of the run, from its sources down")
    caption = (
        "Sources: green is verified, dashed is unsigned, red is a broken signature. "
        "The gate is red where it closed. Blue: models and exports. A box leads to its line below."
    )
    head = ["step", "stage", "rows in", "rows out", "set aside"]
    lines = [[s["position"], s["stage"], *(f"{int(s[k]):,}" for k in COUNTS)] for s in facts.steps]
    return join(
        [tag("h2", "Lineage"), figure(caption, drawn, table(head, lines, numbers=(0, 2, 3, 4)))]
    )


def _source_nodes(sources: Sequence[Line]) -> list[Node]:
    shown = sources if len(sources) <= MOST_SOURCES else sources[: MOST_SOURCES - 1]
    nodes = [
        Node(
            str(s["name"]),
            f"{count(int(s['rows']))} rows, {_trust(s)}",
            str(s["trust"]),
            f"source-{int(s['source_no'])}",
        )
        for s in shown
    ]
    rest = sources[len(shown) :]
    if rest:
        states = [str(s["trust"]) for s in rest]
        worst = next((t for t in ("invalid", "unsigned") if t in states), "verified")
        rows = sum(int(s["rows"]) for s in rest)
        nodes.append(Node(f"{len(rest)} more sources", f"{rows:,} rows, {worst}", worst))
    return nodes


def _trust(source: Line) -> str:
    return {"verified": "verified", "unsigned": "unsigned"}.get(source["trust"], "broken")


def _stretches(facts: Facts) -> list[Row]:
    """Groups of steps as the picture draws them: chains of single steps, frames of branches."""
    groups: dict[object, list[Line]] = {}
    for step in facts.steps:
        if step["shape"] != "read":
            group = step["branch_group"]
            key = step["position"] if group is None else (group,)
            groups.setdefault(key, []).append(step)
    rows: list[Row] = []
    for group in groups.values():
        makers = [s for s in group if _family(s) in MADE]
        lookers = [s for s in group if _family(s) not in MADE]
        if len(lookers) == 1:
            _chained(rows, _step_node(lookers[0]))
        elif lookers:
            nodes = [_step_node(s) for s in lookers[:MOST_BRANCHES]]
            rows.append(Row(nodes, "frame", f"{len(lookers)} steps side by side"))
        trees = _trees(facts, [s for s in makers if _family(s) == "train"])
        trees += _orphans(facts, makers)
        if len(trees) == 1 and rows and rows[-1].shape == "chain":
            *before, last = rows[-1].nodes
            grown = Node(last.title, last.detail, last.state, last.anchor, (*last.parts, *trees))
            rows[-1] = Row([*before, grown], "chain")
        elif trees:
            rows.append(Row(trees, "trees"))
    missing = facts.not_run
    if missing and facts.closed:
        rows.append(Row([Node(s, "never ran", "unrun") for s in missing[:5]], "trees"))
    return rows


def _chained(rows: list[Row], node: Node) -> None:
    if rows and rows[-1].shape == "chain":
        rows[-1] = Row([*rows[-1].nodes, node], "chain")
    else:
        rows.append(Row([node], "chain"))


def _family(step: Line) -> str:
    return str(step["stage"]).partition(".")[0]


def _step_node(step: Line, *parts: Node) -> Node:
    stage, rows, aside = str(step["stage"]), int(step["rows_in"]), int(step["rows_aside"])
    detail, state = f"{count(rows)} rows", "step"
    if stage == "gate":
        shut = not step["dataset_out"]
        state = "closed" if shut else "gate"
        detail = f"closed to {count(rows)} rows" if shut else f"open: {count(rows)} rows pass"
    elif _family(step) in MADE:
        detail = f"on {count(rows)} rows"
    elif aside:
        detail = f"{count(rows)} rows, {count(aside)} set aside"
    return Node(stage, detail, state, f"step-{int(step['position'])}", parts)


def _trees(facts: Facts, trainers: Sequence[Line]) -> list[Node]:
    """Each trainer with its models, and each model with the exports made from it."""
    nodes = []
    for step in trainers:
        models = [m for m in facts.tables["models"] if m["step_id"] == step["step_id"]]
        nodes.append(_step_node(step, *(_model_node(facts, m) for m in models)))
    return nodes


def _model_node(facts: Facts, model: Line) -> Node:
    accuracy = measure_of(model, "accuracy")
    told = f"{int(model['bytes']):,} bytes" if accuracy is None else f"accuracy {_point(accuracy)}"
    names = {model["model_id"], model["name"]}
    mine = [e for e in facts.tables["exports"] if e["model"] in names]
    by_step: dict[str, list[Line]] = {}
    for export in mine:
        by_step.setdefault(str(export["step_id"]), []).append(export)
    step = {str(s["step_id"]): s for s in facts.steps}
    parts = [
        _step_node(step[k], *map(_export_node, made)) for k, made in by_step.items() if k in step
    ]
    return Node(str(model["name"]), told, "model", "models", tuple(parts))


def _orphans(facts: Facts, makers: Sequence[Line]) -> list[Node]:
    """Makers that hang under no model of this run."""
    known = {m[k] for m in facts.tables["models"] for k in ("model_id", "name")}
    exports = facts.tables["exports"]
    drawn = {e["step_id"] for e in exports if e["model"] in known}
    return [
        _step_node(s, *(_export_node(e) for e in exports if e["step_id"] == s["step_id"]))
        for s in makers
        if _family(s) != "train" and s["step_id"] not in drawn
    ]


def _export_node(export: Line) -> Node:
    return Node(str(export["name"]), f"{int(export['bytes']):,} bytes", "export", "exports")


def _point(e: Estimate) -> str:
    return "unknown" if math.isnan(e.value) else percent(e.value)
