# SPDX-License-Identifier: Apache-2.0
"""Names, first lines and signatures: the rules a linter does not know."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

BANNED = {
    "abstract", "base", "common", "factory", "handler", "handlers", "helper", "helpers", "impl",
    "manager", "managers", "misc", "mixin", "processor", "processors", "util", "utils", "wrapper",
    "wrappers",
}  # fmt: skip
SPDX = "# SPDX-License-Identifier: Apache-2.0"
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*")
CATCH_ALL = {"sql": "values", "lines": "values"}
"""The one kind of place where names are the caller's own: the parameters of a query."""

IGNORE = re.compile(r"#\s*type:\s*ignore(?P<rest>.*)")
NOQA = re.compile(r"#\s*noqa(?P<rest>.*)", re.IGNORECASE)
PLACES = re.compile(r"(?<![\w.>-])/(?:work|home|root|opt|Users|tmp)/\w")
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".sql", ".html", ".yml", ".yaml", ".cfg", ""}


def test_no_vague_file_names(modules, scripts):
    bad = [m.address for m in [*modules, *scripts] if BANNED & set(m.path.stem.lower().split("_"))]
    assert not bad, "\n".join(bad)


def test_no_vague_class_names(modules):
    bad = []
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                words = WORDS.findall(node.name)
                vague = BANNED & {w.lower() for w in words}
                if vague or re.match(r"I[A-Z][a-z]", node.name):
                    bad.append(f"{module.address}:{node.lineno} {node.name}")
    assert not bad, "\n".join(bad)


def test_first_lines(modules, scripts):
    bad = []
    for module in [*modules, *scripts]:
        if not module.text.startswith(SPDX + "\n"):
            bad.append(f"{module.address}: the first line is not {SPDX!r}")
        if not ast.get_docstring(module.tree):
            bad.append(f"{module.address}: no module docstring")
        if len(module.tree.body) > 1 and "from __future__ import annotations" not in module.text:
            bad.append(f"{module.address}: no `from __future__ import annotations`")
    assert not bad, "\n".join(bad)


def test_every_ignore_has_a_code_and_a_reason(modules, scripts):
    bad = []
    for module in [*modules, *scripts]:
        for number, line in enumerate(module.text.splitlines(), 1):
            ignore, noqa = IGNORE.search(line), NOQA.search(line)
            if ignore and not re.match(r"\[[\w, -]+\]\s+# \S", ignore["rest"]):
                bad.append(f"{module.address}:{number} type: ignore without a code and a reason")
            if noqa and not re.match(r": [A-Z0-9, ]+ ?(-|#|—) ?\S", noqa["rest"]):
                bad.append(f"{module.address}:{number} noqa without a code and a reason")
    assert not [b for b in bad if "test_names.py" not in b], "\n".join(bad)


def test_no_catch_all_parameters(public):
    bad = [
        f"{p.where} **{p.node.args.kwarg.arg}"
        for p in public
        if isinstance(p.node, ast.FunctionDef)
        and p.node.args.kwarg
        and CATCH_ALL.get(p.node.name) != p.node.args.kwarg.arg
    ]
    assert not bad, "\n".join(bad)


def test_no_boolean_positionals(public):
    bad = []
    for p in public:
        if isinstance(p.node, ast.FunctionDef) and not p.module.name.startswith("datapipe.cli"):
            positional = [*p.node.args.posonlyargs, *p.node.args.args]
            given = {a.arg: ast.unparse(a.annotation) for a in positional if a.annotation}
            bad.extend(f"{p.where} {name}" for name, kind in given.items() if kind == "bool")
    assert not bad, "\n".join(bad)


def test_nothing_names_a_machine(root: Path):
    bad = []
    for folder, below, names in os.walk(root):
        below[:] = [n for n in below if (n[0] != "." or n == ".ci") and n != "__pycache__"]
        for path in (Path(folder, name) for name in names if name[0] != "."):
            if path.suffix in TEXT and path.is_file():
                lines = enumerate(path.read_text(errors="ignore").splitlines(), 1)
                bad.extend(f"{path.relative_to(root)}:{i}" for i, s in lines if PLACES.search(s))
    assert not bad, "\n".join(sorted(bad))


def test_the_root_holds_five_folders(root: Path):
    folders = {p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")}
    made = {"__pycache__", "build", "dist"}
    assert folders - made == {"examples", "manifests", "src", "stages", "tests"}
