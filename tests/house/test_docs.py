# SPDX-License-Identifier: Apache-2.0
"""Public documentation against the code: arguments, errors, examples."""

from __future__ import annotations

import ast
import re

import pytest

from datapipe.stages import CATALOGUE

NO_OWN_FIELDS = {"Protocol", "TypedDict", "NamedTuple", "Enum", "StrEnum", "IntEnum"}


def bases(node: ast.AST) -> set[str]:
    """The names of a class's bases; none for a function."""
    return {last(b) for b in node.bases} if isinstance(node, ast.ClassDef) else set()


def last(node: ast.expr) -> str:
    """The last part of a dotted name, calls and subscripts unwrapped."""
    while isinstance(node, (ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def parameters(node: ast.FunctionDef, *, method: bool) -> list[str]:
    """The names a caller may give; a method's self or cls left out."""
    args = node.args
    names = [a.arg for a in [*args.posonlyargs, *args.args]]
    static = any(last(d) == "staticmethod" for d in node.decorator_list)
    names = names[1:] if method and not static else names
    extra = [a.arg for a in (args.vararg, args.kwarg) if a]
    return [n for n in [*names, *(a.arg for a in args.kwonlyargs), *extra] if not n.startswith("_")]


def own_fields(node: ast.ClassDef) -> list[str]:
    """The fields of a dataclass, class variables and private ones left out."""
    return [
        s.target.id
        for s in node.body
        if isinstance(s, ast.AnnAssign)
        and isinstance(s.target, ast.Name)
        and last(s.annotation) not in {"ClassVar", "KW_ONLY"}
        and not s.target.id.startswith("_")
        and "init=False" not in ast.unparse(s).replace(" ", "")
    ]


def wanted(node: ast.ClassDef) -> tuple[list[str], bool]:
    """What the Args of a class must list, and whether inherited names may be listed too."""
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return parameters(inner, method=True), False
    if any(last(d) == "dataclass" for d in node.decorator_list):
        return own_fields(node), True
    return [], True


def own_raises(node: ast.AST) -> set[str]:
    """The classes raised directly in a function, nested functions left out."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            name = last(child.exc)
            if name[:1].isupper():
                found.add(name)
        found |= own_raises(child)
    return found


def test_every_public_name_is_documented(public):
    bad = []
    for p in public:
        first = p.doc.split("\n\n")[0]
        if "overload" in p.decorators:
            continue
        if not p.doc:
            bad.append(f"{p.where}: no docstring")
        elif not re.search(r"[.?:]$", first.strip()):
            bad.append(f"{p.where}: the first sentence does not end")
    assert not bad, "\n".join(bad)


def test_args_are_the_signature(public):
    bad = []
    for p in public:
        listed = p.listed("Args")
        if p.is_property or "overload" in p.decorators:
            continue
        if isinstance(p.node, ast.ClassDef):
            if NO_OWN_FIELDS & bases(p.node):
                continue
            names, inherited = wanted(p.node)
        else:
            names, inherited = parameters(p.node, method=p.owner is not None), False
        unlisted = [n for n in names if n not in listed]
        invented = [] if inherited else [n for n in listed if n not in names]
        if unlisted or invented:
            bad.append(f"{p.where}: not listed {unlisted}, not there {invented}")
    assert not bad, "\n".join(bad)


def test_every_error_raised_is_named(public):
    bad = []
    for p in public:
        if isinstance(p.node, ast.ClassDef):
            makers = [
                f
                for f in p.node.body
                if isinstance(f, ast.FunctionDef) and f.name in {"__init__", "__post_init__"}
            ]
            raised = set().union(*(own_raises(f) for f in makers))
        else:
            raised = own_raises(p.node)
        unnamed = sorted(
            r for r in raised if r not in {n.split(".")[-1] for n in p.listed("Raises")}
        )
        if unnamed:
            bad.append(f"{p.where}: raises {', '.join(unnamed)}")
    assert not bad, "\n".join(bad)


def test_every_public_name_has_an_example(public):
    bad = []
    for p in public:
        if (
            p.is_property
            or "overload" in p.decorators
            or p.module.name.startswith("datapipe.errors")
        ):
            continue
        if "Protocol" in bases(p.node):
            continue
        example = p.sections.get("Example", "")
        runs = [x for x in re.findall(r"^\s*>>> (.*)$", example, re.MULTILINE) if x[:1] != "#"]
        if not runs:
            bad.append(p.where)
    assert not bad, "\n".join(bad)


def test_what_returns_says_what(public):
    bad = []
    for p in public:
        if isinstance(p.node, ast.ClassDef) or p.is_property or "overload" in p.decorators:
            continue
        gives = p.node.returns is not None and ast.unparse(p.node.returns) not in {
            "None",
            "Never",
            "NoReturn",
        }
        if gives and not {"Returns", "Yields"} & p.sections.keys():
            bad.append(p.where)
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("line", ["Method", "Assumes", "Choose it when", "Fails when", "Cost"])
def test_a_stage_says_when_to_choose_it(public, line):
    names = set(CATALOGUE.values())
    stages = [p for p in public if p.qualified in names and ".stages." in p.module.name]
    assert stages
    bad = [p.where for p in stages if not re.search(rf"^\s*\*?{line}:\*?", p.doc, re.MULTILINE)]
    assert not bad, "\n".join(bad)
