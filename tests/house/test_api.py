# SPDX-License-Identifier: Apache-2.0
"""The public surface, written down: a change of it is seen in review, never by a user first."""

from __future__ import annotations

import ast
from pathlib import Path

import datapipe
from datapipe import stages, testing
from datapipe.stages import CATALOGUE


def signature(node: ast.FunctionDef, prefix: str) -> str:
    """A function as a caller sees it."""
    plain = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0]
    for argument in ast.walk(plain.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    words = ast.unparse(plain.args).removeprefix("self, ").removeprefix("cls, ")
    return f"{prefix}({'' if words in {'self', 'cls'} else words})"


def described(node: ast.stmt, prefix: str) -> list[str]:
    """A class with its fields and methods, or a function."""
    if isinstance(node, ast.FunctionDef):
        return [signature(node, prefix)]
    if not isinstance(node, ast.ClassDef):
        return [prefix]
    bases = ", ".join(ast.unparse(b) for b in node.bases)
    lines = [f"{prefix}: {bases}" if bases else prefix]
    for inner in node.body:
        if isinstance(inner, ast.AnnAssign) and not ast.unparse(inner.target).startswith("_"):
            default = f" = {ast.unparse(inner.value)}" if inner.value else ""
            lines.append(f"  {ast.unparse(inner.target)}{default}")
        elif isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
            is_property = any(ast.unparse(d).endswith("property") for d in inner.decorator_list)
            lines.append(
                f"  .{inner.name}" if is_property else signature(inner, f"  .{inner.name}")
            )
    return lines


def surface(modules) -> str:
    """Everything that is promised: the top, the stages, the errors, the testing tools, SQL."""
    homes = {f"datapipe.{n}": (datapipe._HOMES[n], n) for n in datapipe.__all__}
    homes |= {
        f"datapipe.stages.{name}": (f"datapipe.stages.{key}", name)
        for key, name in CATALOGUE.items()
    }
    homes["datapipe.stages.find"] = (stages.__name__, "find")
    homes |= {
        f"datapipe.testing.{n}": (f"datapipe.testing.{testing._HOMES[n]}", n)
        for n in testing.__all__
    }
    nodes = {
        (m.name, getattr(node, "name", "")): node
        for m in modules
        for node in m.tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    homes |= {
        f"{module}.{name}": (module, name)
        for module, name in nodes
        if module == "datapipe.errors" and not name.startswith("_")
    }
    lines = []
    for public, home in sorted(homes.items()):
        lines += described(nodes[home], public) if home in nodes else [f"{public}: not there"]
    return "\n".join(lines) + "\n"


def test_the_public_surface_is_the_one_written_down(modules, golden):
    golden(Path(__file__).with_name("api.txt"), surface(modules))
