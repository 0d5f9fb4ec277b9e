# SPDX-License-Identifier: Apache-2.0
"""Errors: our own classes only, a code with one meaning, a hint where one can be given."""

from __future__ import annotations

import ast
import builtins
import pickle
import re
from collections import defaultdict

import pytest

from datapipe import errors

PYTHONS_OWN = {"AttributeError", "StopIteration", "SystemExit", "KeyboardInterrupt"}
"""What Python's protocols ask for: a missing attribute, the end of an iterator, leaving."""

OURS = [
    e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.DatapipeError)
]


def raises(modules):
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                yield module, node, ast.unparse(node.exc.func).rpartition(".")[2], node.exc


def test_only_our_own_errors_are_raised(modules):
    bad = [
        f"{m.address}:{node.lineno} raises {name}"
        for m, node, name, _ in raises(modules)
        if isinstance(getattr(builtins, name, None), type) and name not in PYTHONS_OWN
    ]
    assert not bad, "\n".join(bad)


def test_a_code_has_one_meaning(modules):
    """One code belongs to one error class and one package."""
    used = defaultdict(set)
    for module, _, name, call in raises(modules):
        for keyword in call.keywords:
            if (
                keyword.arg == "code"
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value
            ):
                used[keyword.value.value].add((str(module.path.parent.name), name))
    for error in OURS:
        used[error.default_code].add(("datapipe", error.__name__))
    misshapen = [c for c in used if not re.fullmatch(r"DP-[A-Z]+-\d{3}", c)]
    shared = [f"{c}: {sorted(places)}" for c, places in sorted(used.items()) if len(places) > 1]
    assert not misshapen + shared, "\n".join(misshapen + shared)


@pytest.mark.parametrize("error", OURS)
def test_errors_pickle_with_their_attributes(error):
    made = error("what happened", hint="do this")
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is error
    assert vars(again) == vars(made)
    assert str(again) == f"what happened [{error.default_code}]\n\nhint: do this"


def test_the_nearest_name_comes_first():
    assert errors.nearest("lable", ["text", "label"]) == "did you mean 'label'?"
    assert errors.nearest("zzz", ["text", "label"]) == "known: label, text"
    assert errors.nearest("zzz", []) == "nothing is known here"
