# SPDX-License-Identifier: Apache-2.0
"""No figure without its uncertainty: in code, in evidence and in prose."""

from __future__ import annotations

import ast
import base64
import json
import re
from pathlib import Path

FIGURE = re.compile(
    r"(?<![\w.])\d+(?:\.\d+)?\s?%|(?<![\w.])\d+(?:\.\d+)?\s?(?:x|times)\s+(?:faster|slower|less|more|smaller)"
)
INTERVAL = re.compile(r"\[[-\d.]+\s?%?,\s*[-\d.]+\s?%?\]")


def test_a_finding_is_measured_by_an_estimate(modules):
    bad = []
    for module in modules:
        for node in ast.walk(module.tree):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).rpartition(".")[2] == "Finding"
            ):
                named = {k.arg: k.value for k in node.keywords}
                measure = named.get("measure", node.args[2] if len(node.args) > 2 else None)
                bare = isinstance(measure, ast.Constant | ast.BinOp | ast.Tuple)
                if bare or (measure is None and not any(k is None for k in named)):
                    bad.append(f"{module.address}:{node.lineno}")
    assert not bad, "\n".join(bad)


def test_evidence_holds_estimates_only(root: Path):
    bad = []
    for path in sorted((root / "stages").rglob("*.evidence.json")):
        payload = base64.b64decode(json.loads(path.read_text())["payload"])
        said = json.loads(payload)["predicate"]
        for name, figure in said["figures"].items():
            if not {"method", "n", "low", "high"} <= figure.keys():
                bad.append(f"{path.name}: {name} is {figure}")
        if not {"seeds", "command", "code", "data"} <= said.keys():
            bad.append(f"{path.name}: cannot be repeated from what it says")
    assert not bad, "\n".join(bad)


def test_figures_in_prose_carry_an_interval(root: Path):
    bad = []
    pages = [
        *root.glob("*.md"),
        *(root / "stages").rglob("*.md"),
        *(root / "manifests").rglob("*.md"),
    ]
    for page in sorted(pages):
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        naked = [x for x in prose.splitlines() if FIGURE.search(x) and not INTERVAL.search(x)]
        bad.extend(f"{page.relative_to(root)}: {line.strip()[:100]}" for line in naked)
    assert not bad, "\n".join(bad)
