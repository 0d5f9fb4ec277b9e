# SPDX-License-Identifier: Apache-2.0
"""Somebody's code is another when anything of theirs that it uses is another, and only then."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from datapipe.core.authored import authored
from datapipe.core.stage import RowStage

LIMIT = 1


def _limited() -> int:
    return LIMIT


def _calls() -> int:
    return _limited()


def _closed(value: object):
    return lambda: value


def _defaulted(value: object):
    def function(value: object = value) -> object:
        return value

    return function


@pytest.mark.parametrize("make", [_closed, _defaulted])
@pytest.mark.parametrize(
    ("one", "other"), [(1, 2), (1, 1.0), ("a", b"a"), ([1, [2]], [1, [3]]), ({1: 2}, {1: 3})]
)
def test_what_a_function_holds_counts(make, one, other):
    assert authored(make(one)) == authored(make(one))
    assert authored(make(one)) != authored(make(other))
    assert authored(make(one)).exact


def test_what_cannot_be_told_apart_is_said_to_be():
    assert not authored(_closed(threading.Lock())).exact
    assert not authored(_defaulted(object())).exact


def test_globals_of_what_it_calls_count(monkeypatch):
    before = authored(_calls)
    assert authored(_calls) == before
    monkeypatch.setattr(sys.modules[__name__], "LIMIT", 2)
    assert authored(_calls) != before


def test_classes_count_with_their_methods_attributes_and_bases():
    def made(times: int, base: type = RowStage) -> type:
        return type("A", (base,), {"name": "t.a", "times": times, "f": lambda self: self.times})

    assert authored(made(2)) == authored(made(2))
    assert authored(made(2)) != authored(made(3))
    assert authored(made(2, made(5))) != authored(made(2, made(6)))
    patched = made(2)
    patched.f = lambda self: self.times + 1
    assert authored(patched) != authored(made(2))


def test_wrappers_hide_nothing():
    def cached(times: int):
        return functools.cache(_closed(times))

    assert authored(_closed(cached(1))) != authored(_closed(cached(2)))
    partials = [functools.partial(_closed, n) for n in (1, 2)]
    assert authored(_closed(partials[0])) != authored(_closed(partials[1]))


MODULES = {
    "worker_of_ours": "import helper_of_ours\nfrom other_of_ours import g\n"
    "def f(): return helper_of_ours.h() + g()\n",
    "helper_of_ours": "def h(): return 1\n",
    "other_of_ours": "import deep_of_ours\ndef g(): return deep_of_ours.d()\n",
    "deep_of_ours": "def d(): return 1\n",
}


def _digest(folder: Path) -> str:
    code = "import worker_of_ours as w\nfrom datapipe.core.authored import authored\n"
    told = subprocess.run(
        [sys.executable, "-c", code + "print(authored(w.f).digest)"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout


def test_modules_beside_it_count_in_every_process(tmp_path: Path):
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    before = _digest(tmp_path)
    assert _digest(tmp_path) == before
    (tmp_path / "deep_of_ours.py").write_text("def d(): return 22\n")  # another size: no old .pyc
    assert _digest(tmp_path) != before


def test_a_module_that_was_loaded_anew_counts_as_it_is(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "reloaded_of_ours.py"
    file.write_text("def f(): return 1\n")
    module = importlib.import_module("reloaded_of_ours")
    before = authored(module.f)
    file.write_text("def f(): return 22\n")
    importlib.invalidate_caches()
    assert authored(importlib.reload(module).f) != before
    del sys.modules["reloaded_of_ours"]
