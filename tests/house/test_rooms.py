# SPDX-License-Identifier: Apache-2.0
"""One address, four rooms: code, card, test and catalogue key; no orphan in any of them."""

from __future__ import annotations

import ast
from pathlib import Path

from datapipe.stages import CATALOGUE


def keys(folder: Path, pattern: str, *, prefix: str = "") -> set[str]:
    """The keys that the files of a room stand for."""
    return {
        f"{path.parent.name}.{path.stem.removeprefix(prefix)}"
        for path in folder.glob(f"*/{pattern}")
        if not path.name.startswith("_") and path.stem != "README"
    }


def stages_with_tests(folder: Path) -> set[str]:
    """The stages that tests stand for; `test_minhash_scripts.py` is a second file of `minhash`."""
    return {
        next((k for k in CATALOGUE if key.startswith(f"{k}_") and key not in CATALOGUE), key)
        for key in keys(folder, "test_*.py", prefix="test_")
    }


def rooms(root: Path) -> dict[str, set[str]]:
    return {
        "code": keys(root / "src" / "datapipe" / "stages", "*.py"),
        "card": keys(root / "stages", "*.md"),
        "test": stages_with_tests(root / "tests" / "stages"),
    }


def test_all_four_rooms_hold_the_same_stages(root: Path):
    known = set(CATALOGUE)
    bad = [
        f"{key}: {'no' if key in known else 'an orphan'} {room}"
        for room, held in rooms(root).items()
        for key in sorted(known ^ held)
    ]
    assert not bad, "\n".join(bad)


def test_evidence_belongs_to_a_stage(root: Path):
    found = {
        f"{p.parent.name}.{p.name.removesuffix('.evidence.json')}"
        for p in (root / "stages").rglob("*.evidence.json")
    }
    assert not found - set(CATALOGUE)


def test_a_module_holds_the_class_of_its_key(modules):
    classes = {
        f"{m.name}:{node.name}": node
        for m in modules
        for node in m.tree.body
        if isinstance(node, ast.ClassDef)
    }
    bad = []
    for key, name in CATALOGUE.items():
        node = classes.get(f"datapipe.stages.{key}:{name}")
        told = [
            s.value.value
            for s in (node.body if node else [])
            if isinstance(s, ast.AnnAssign)
            and isinstance(s.target, ast.Name)
            and s.target.id == "name"
            and isinstance(s.value, ast.Constant)
        ]
        if told != [key]:
            bad.append(f"{key}: {name} is {'not there' if node is None else f'called {told}'}")
    assert not bad, "\n".join(bad)


def test_every_class_of_the_catalogue_is_named_for_type_checkers(root: Path):
    text = (root / "src" / "datapipe" / "stages" / "__init__.py").read_text()
    bad = [
        key
        for key, name in CATALOGUE.items()
        if f"from datapipe.stages.{key} import {name} as {name}\n" not in text
    ]
    assert not bad, "\n".join(bad)


def test_every_family_has_a_page(root: Path):
    families = {key.partition(".")[0] for key in CATALOGUE}
    bad = [f for f in sorted(families) if not (root / "stages" / f / "README.md").is_file()]
    assert not bad, "\n".join(bad)


TOP = {"CHANGELOG.md", "CONTRIBUTING.md", "DECISIONS.md", "LICENSE", "Makefile", "README.md",
       "constraints.txt", "examples", "manifests", "pyproject.toml", "src", "stages",
       "tests", "report.html"}  # fmt: skip


def test_nothing_strays_to_the_top(root: Path):
    """Neither what is kept nor what a test left behind; `make demo` writes a report."""
    there = {p.name for p in root.iterdir() if not p.name.startswith(".")}
    assert not there - TOP
