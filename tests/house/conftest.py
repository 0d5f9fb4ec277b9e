# SPDX-License-Identifier: Apache-2.0
"""The source read as syntax trees: what the house rules are checked on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Function = ast.FunctionDef | ast.AsyncFunctionDef
SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Example|References):[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Module:
    """One file of Python."""

    path: Path
    name: str

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def public(self) -> bool:
        return not any(part.startswith("_") for part in self.name.split("."))

    @property
    def address(self) -> str:
        return str(self.path.relative_to(ROOT))


@dataclass(frozen=True)
class Public:
    """A public class, function or method."""

    module: Module
    qualified: str
    node: ast.ClassDef | Function
    owner: ast.ClassDef | None

    @property
    def where(self) -> str:
        return f"{self.module.address}:{self.node.lineno} {self.qualified}"

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    @cached_property
    def decorators(self) -> set[str]:
        return {name_of(d) for d in self.node.decorator_list}

    @property
    def is_property(self) -> bool:
        return any(
            d in {"property", "cached_property"} or d.endswith(".setter") for d in self.decorators
        )

    @cached_property
    def sections(self) -> dict[str, str]:
        parts = SECTION.split(self.doc)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    def listed(self, section: str) -> list[str]:
        """The names a section lists: lines indented by four that read `name: text`."""
        found = re.findall(
            r"^    \*{0,2}([A-Za-z_][\w.]*):", self.sections.get(section, ""), re.MULTILINE
        )
        return list(found)


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name, calls unwrapped."""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def read(folder: Path, top: Path) -> list[Module]:
    """Every module below a folder."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(top).with_suffix("").parts
        found.append(Module(path, ".".join(p for p in parts if p != "__init__")))
    return found


def publics(module: Module) -> Iterator[Public]:
    """The public classes, functions and methods of a module."""
    for node in module.tree.body:
        if isinstance(node, (ast.ClassDef, *Function.__args__)) and not node.name.startswith("_"):
            yield Public(module, node.name, node, None)
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, Function) and not inner.name.startswith("_"):
                        yield Public(module, f"{node.name}.{inner.name}", inner, node)


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    """Every module of the library."""
    return read(ROOT / "src" / "datapipe", ROOT / "src")


@pytest.fixture(scope="session")
def scripts() -> list[Module]:
    """Every test and example."""
    return read(ROOT / "tests", ROOT) + read(ROOT / "examples", ROOT)


@pytest.fixture(scope="session")
def public(modules: list[Module]) -> list[Public]:
    """Every public class, function and method of a public module."""
    return [p for m in modules if m.public for p in publics(m)]
