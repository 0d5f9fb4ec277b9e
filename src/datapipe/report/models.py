# SPDX-License-Identifier: Apache-2.0
"""The section of models: accuracy, what private ones spent, who took part, and the exports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from datapipe.report import figures
from datapipe.report.facts import Facts, Line, measure_of
from datapipe.report.markup import Html, figure, join, table, tag, verdict
from datapipe.report.wording import change, number, said

MOST_CURVES = 4


def training(facts: Facts) -> Html:
    """Models, privacy and exports.

    Args:
        facts: The run.

    Returns:
        The markup; empty when nothing was trained or exported.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> training(gather(small_run().store))
        ''
    """
    models = facts.tables["models"]
    parts: list[object] = []
    if models:
        head = tag("h2", "Models", anchor="models")
        parts = [head, _accuracies(facts), _table(models)]
        parts += [_spent(m) for m in models if _points(m)][:MOST_CURVES]
        parts += [_rounds(m) for m in models if _by_round(m)][:MOST_CURVES]
        parts.append(_privacy(facts))
    if facts.tables["exports"]:
        parts.append(tag("h2", "Exports", anchor="exports"))
        parts.append(_exports(facts))
    return join(parts)


def _accuracies(facts: Facts) -> Html:
    measured = [
        (str(line["name"]), e)
        for table_name in ("models", "exports")
        for line in facts.tables[table_name]
        if (e := measure_of(line, "accuracy")) is not None
    ]
    caption = "Accuracy on rows that did not train, with 95 % intervals"
    drawn = figures.intervals([figures.Mark(n, e) for n, e in measured], title=caption)
    rows = [[name, said(e), f"{e.n:,}", e.method] for name, e in measured]
    data = table(["model or export", "accuracy [interval]", "n", "method"], rows, numbers=(2,))
    return figure(caption, drawn, data)


def _table(models: Any) -> Html:
    rows = []
    for m in models:
        told, accuracy = dict(m["facts"] or {}), measure_of(m, "accuracy")
        rows.append(
            [
                m["name"],
                "not measured" if accuracy is None else said(accuracy),
                _count(told.get("n_rows")),
                _count(told.get("n_parameters")),
                f"{int(m['bytes']):,}",
                _privacy_of(told),
                tag("code", str(m["model_id"])[7:23]),
            ]
        )
    head = ["model", "accuracy [95 %]", "rows", "parameters", "bytes", "privacy", "sha256"]
    return table(head, rows, numbers=(2, 3, 4))


def _privacy_of(told: Mapping[str, Any]) -> str:
    if not isinstance(told.get("epsilon"), int | float):
        return "none"
    unit = f" for every {told['unit']}" if told.get("unit") else ""
    return f"ε ≤ {float(told['epsilon']):.3g} at δ = {float(told.get('delta') or 0):g}{unit}"


def _spent(model: Line) -> Html:
    told = dict(model["facts"])
    points = _points(model)
    limit = told.get("epsilon_target")
    limit = float(limit) if isinstance(limit, int | float) and math.isfinite(limit) else None
    by = f" (accountant: {told['accountant']})" if told.get("accountant") else ""
    caption = f"{model['name']}: upper bound of ε by step{by}, and the ε that was asked for"
    drawn = figures.curve([(0.0, 0.0), *points], title=caption, axes=("step", "ε"), limit=limit)
    rows = [[number(x), f"{y:.4g}"] for x, y in points]
    return figure(caption, drawn, table(["step", "ε at most"], rows, numbers=(0, 1)))


def _rounds(model: Line) -> Html:
    """Federated rounds: how far the model moved in each, and who took part."""
    rounds = _by_round(model)
    points = [(float(r["round"]), float(r["mean_update_norm"])) for r in rounds]
    least, most = (f(int(r.get("participants", 0)) for r in rounds) for f in (min, max))
    who = f"{most}" if least == most else f"{least} to {most}"
    caption = f"{model['name']}: mean length of the clients' updates by round; {who} took part"
    axes = ("round", "length of the update")
    drawn = figures.curve(points, title=caption, axes=axes)
    rows = [
        [r["round"], r.get("participants", ""), r.get("left_out", ""), f"{y:.4g}"]
        for r, (_, y) in zip(rounds, points, strict=True)
    ]
    head = ["round", "clients", "left out", "mean length of an update"]
    return figure(caption, drawn, table(head, rows, numbers=(0, 1, 2, 3)))


def _privacy(facts: Facts) -> Html:
    """What was charged to which data, as the ledger has it."""
    events = facts.tables["privacy_events"]
    if not events:
        return Html("")
    rows = [
        [
            p["mechanism"],
            f"{float(p['epsilon']):.3f}",
            f"{float(p['delta']):g}",
            f"{float(p['sigma']):.3f}",
            f"{float(p['sample_rate']):g}",
            f"{int(p['steps']):,}",
            p["unit"],
            tag("code", str(p["dataset"])[7:19]),
        ]
        for p in events
    ]
    head = ["mechanism", "ε at most", "δ", "noise", "sampling", "steps", "unit", "charged to"]
    told = table(head, rows, numbers=(1, 2, 3, 4, 5))
    return join([tag("h3", "Privacy ledger of this run"), told])


def _exports(facts: Facts) -> Html:
    rows = []
    for export in facts.tables["exports"]:
        told = dict(export["facts"] or {})
        moved, accuracy = measure_of(export, "accuracy_change"), measure_of(export, "accuracy")
        rows.append(
            [
                export["name"],
                str(told.get("recipe") or ""),
                f"{int(export['bytes']):,}",
                _smaller(told, int(export["bytes"])),
                _dtypes(told),
                "not measured" if accuracy is None else said(accuracy),
                "not measured" if moved is None else change(moved),
                _reopened(facts, export),
                tag("code", str(export["export_id"])[7:15]),
            ]
        )
    head = [
        "export", "recipe", "bytes", "times smaller", "weights by type, bytes",
        "accuracy [95 %]", "change [95 %]", "reopened elsewhere", "sha256",
    ]  # fmt: skip
    return table(head, rows, numbers=(2, 3))


def _reopened(facts: Facts, export: Line) -> Html:
    """The verdict of the finding about this export: it was opened by another process."""
    kind = f"export.{dict(export['facts'] or {}).get('format')}"
    for finding in facts.findings:
        if finding["step_id"] == export["step_id"] and finding["kind"] == kind:
            return verdict(finding["verdict"])
    return verdict("not_evaluated")


def _smaller(told: Mapping[str, Any], size: int) -> str:
    full = told.get("float32_bytes")
    return f"{full / size:.2f}" if isinstance(full, int | float) and size else ""


def _dtypes(told: Mapping[str, Any]) -> str:
    found = told.get("bytes_by_dtype")
    if not isinstance(found, dict):
        return "not recorded"
    return ", ".join(f"{k} {int(v):,}" for k, v in sorted(found.items(), key=lambda x: -x[1]))


def _points(model: Line) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in dict(model["facts"] or {}).get("epsilon_by_step", [])]


def _by_round(model: Line) -> list[Mapping[str, Any]]:
    rounds = dict(model["facts"] or {}).get("by_round", [])
    return [r for r in rounds if r.get("mean_update_norm") is not None]


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else ""
