# SPDX-License-Identifier: Apache-2.0
"""`datapipe card KEY`: what a stage does, its parameters, what it assumes and what beats it."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import typer

import datapipe
from datapipe.cli.layout import table
from datapipe.cli.options import Json
from datapipe.cli.terminal import out, out_json
from datapipe.core.stage import Stage
from datapipe.report.evidence import Evidence, evidence, evidence_table
from datapipe.stages import CATALOGUE, find

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def _card(
    key: Annotated[
        str, typer.Argument(metavar="[KEY]", help="Such as dedup.minhash; none lists them all.")
    ] = "",
    *,
    as_json: Json = False,
) -> None:
    if not key:
        if as_json:
            out_json({"stages": [{"key": k, "class": c} for k, c in CATALOGUE.items()]})
        else:
            out(table(["key", "class"], list(CATALOGUE.items())))
        return
    stage = find(key)
    page, measured = _page(stage.name), evidence(stage.name)
    if as_json:
        out_json(_facts(stage, page, measured))
        return
    if page is not None:
        out(page.read_text("utf-8").rstrip())
    else:
        out(f"# {stage.name}\n\n{inspect.getdoc(stage) or ''}")
    if measured is not None:
        out(f"\n{evidence_table(measured)}")


def _page(key: str) -> Path | None:
    """A card of the catalogue: beside the package when installed, at the root of a checkout."""
    family, _, method = key.partition(".")
    package = Path(datapipe.__file__).resolve().parent
    for room in (package / "cards", package.parents[1] / "stages"):
        path = room / family / f"{method}.md"
        if path.is_file():
            return path
    return None


def _facts(stage: type[Stage], page: Path | None, measured: Evidence | None) -> dict[str, Any]:
    return {
        "key": stage.name,
        "class": stage.__name__,
        "version": stage.version,
        "extra": stage.extra,
        "needs": list(stage.needs),
        "gives": list(stage.gives),
        "changes": list(stage.changes),
        "raises_findings": list(stage.raises_findings),
        "references": list(stage.references),
        "parameters": [
            {"name": f.name, "type": str(f.type), "default": _default(f.default)}
            for f in fields(stage)
        ],
        "card": page.read_text("utf-8") if page else None,
        "evidence": {"mark": measured.mark, **measured.said.to_json()} if measured else None,
    }


def _default(value: Any) -> Any:
    if value is MISSING:
        return None
    return value if isinstance(value, (str, int, float, bool, list, tuple)) else str(value)
