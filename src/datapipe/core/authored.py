# SPDX-License-Identifier: Apache-2.0
"""The digest of code that is not ours, as it is in memory: what a stage of a user's would run.

A file's text does not tell what a class made in a function closes over, what a notebook defined
anew, what a reloaded or patched module holds, or what a helper beside it does. So a function counts
with its byte code, defaults, closure and the globals that it names, and these in turn. Of the
standard library and of installed packages the name and version count; what cannot be told from
another of its kind, such as an open file, counts by its type.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from datapipe.core.digest import PREFIX, canonical, digest_batches, digest_code, is_exact

_LIBRARY = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), "<frozen"})
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
_OURS = "datapipe"
_MADE_BY_PYTHON = re.compile(
    r"__(dict|weakref|doc|module|qualname|slots|annotations\w*|annotate\w*|abstractmethods"
    r"|dataclass_fields|dataclass_params|match_args|static_attributes|firstlineno|parameters"
    r"|orig_bases)__|_abc_impl"
)


class Authored(NamedTuple):
    """What is known of a piece of somebody's code.

    Args:
        digest: Its digest in the house form.
        exact: Whether equal digests mean equal code: not where a closure holds an object that only
            its type is known of.

    Example:
        >>> Authored("sha256:ab", True).exact
        True
    """

    digest: str
    exact: bool


def authored(code: Any) -> Authored:
    """The digest of a class or function and of everything of its author's that it uses.

    Args:
        code: A class or a function.

    Returns:
        Its digest, the same in every process of one Python version.

    Example:
        >>> def times(n):
        ...     return lambda x: x * n
        >>> authored(times(2)) == authored(times(2)), authored(times(2)) == authored(times(3))
        (True, False)
    """
    walk = _Walk(getattr(code, "__module__", None) or "")
    try:
        walk.value(code, strict=True)
    except RecursionError:
        walk.exact = False
    return Authored(PREFIX + walk.total.hexdigest(), walk.exact)


class _Names(NamedTuple):
    """What one code object says by itself."""

    digest: bytes
    globals: tuple[str, ...]
    attributes: frozenset[str]
    imports: tuple[str, ...]


@functools.lru_cache(maxsize=4096)
def _names(code: CodeType) -> _Names:
    total = hashlib.sha256(code.co_code)
    total.update(repr((code.co_names, code.co_varnames, code.co_freevars, code.co_flags)).encode())
    used: list[str] = []
    attributes: set[str] = set()
    imports: list[str] = []
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            used.append(str(step.argval))
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"):
            attributes.add(str(step.argval))
        elif step.opname == "IMPORT_NAME":
            imports.append(str(step.argval))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _names(constant)
            total.update(b"code" + inner.digest)
            used += inner.globals
            attributes |= inner.attributes
            imports += inner.imports
        elif isinstance(constant, frozenset):
            total.update(repr(sorted(map(repr, constant))).encode())
        else:
            total.update(repr(constant).encode())
    once = tuple(dict.fromkeys(used)), frozenset(attributes), tuple(dict.fromkeys(imports))
    return _Names(total.digest(), *once)


class _Walk:
    """One way through somebody's code; each thing is looked at once."""

    def __init__(self, home: str) -> None:
        self.total = hashlib.sha256()
        self.exact = True
        self._home = home.partition(".")[0]  # a stage's own package counts, installed or not
        self._seen: dict[int, int] = {}
        self._held: list[Any] = []  # so that no number is given twice

    def value(self, value: Any, *, strict: bool) -> None:
        """Take a value in; one that cannot be told from others spoils a strict place."""
        if isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, ModuleType):
            self._module(value, frozenset())
        elif isinstance(value, (BuiltinFunctionType, np.ufunc)):
            self._say("builtin", getattr(value, "__module__", ""), value.__name__)
        elif (inside := _inside(value)) is not None:
            self._all(inside, strict=strict)
        elif not self._plain(value, strict=strict):
            self._say("type", type(value).__module__, type(value).__qualname__)
            self.exact &= not strict

    def _plain(self, value: Any, *, strict: bool) -> bool:
        """Take in data; False for what is none."""
        try:
            if isinstance(value, re.Pattern):
                self._say("pattern", value.pattern, value.flags)
            elif isinstance(value, pl.Expr):
                self.total.update(b"expression" + value.meta.serialize())
            elif isinstance(value, np.ndarray) and value.dtype != object:
                self._say("array", value.dtype.str, value.shape)
                self.total.update(hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest())
            elif isinstance(value, (pl.DataFrame, pl.Series, pa.Table)):
                table = pa.table(value.to_frame() if isinstance(value, pl.Series) else value)
                self._say("table", digest_batches(table.schema, table.to_batches()))
            elif is_exact(value):
                self._say(type(value).__name__, canonical(value).decode())
            elif isinstance(value, Mapping) and type(value).__module__ == "builtins":
                items = sorted(value.items(), key=lambda pair: repr(pair[0]))
                self._all([part for pair in items for part in pair], strict=strict, mark="map")
            elif isinstance(value, (list, tuple)):
                self._all(value, strict=strict, mark=type(value).__name__)
            elif isinstance(value, (set, frozenset)):
                self._all(sorted(value, key=repr), strict=strict, mark="set")
            else:
                return False
        except (TypeError, ValueError, pa.ArrowException, pl.exceptions.PolarsError):
            return False
        return True

    def _all(self, values: Iterable[Any], *, strict: bool, mark: str = "all") -> None:
        self._say(mark)
        for each in values:
            self.value(each, strict=strict)
        self._say("end")

    def _say(self, *words: Any) -> None:
        self.total.update(repr(words).encode())

    def _first(self, thing: Any) -> bool:
        """Whether a thing is met for the first time; else where it was met is said."""
        if id(thing) in self._seen:
            self._say("seen", self._seen[id(thing)])
            return False
        self._seen[id(thing)] = len(self._seen)
        self._held.append(thing)
        return True

    def _function(self, function: FunctionType) -> None:
        if not self._first(function):
            return
        module = str(function.__globals__.get("__name__", ""))
        theirs = self._is_theirs(module, function.__code__.co_filename)
        for cell in function.__closure__ or ():  # a decorator of a library holds their function
            try:
                self.value(cell.cell_contents, strict=theirs)
            except ValueError:  # not filled yet
                self._say("empty")
        if not theirs:
            self._library(module, function.__qualname__)
            return
        names = _names(function.__code__)
        self.total.update(names.digest)
        self._all([function.__defaults__, function.__kwdefaults__], strict=True)
        for name in (name for name in names.globals if name in function.__globals__):
            self._say(name)
            held = function.__globals__[name]
            if isinstance(held, ModuleType):
                self._module(held, names.attributes)
            else:
                self.value(held, strict=False)
        for name in names.imports:
            if name in sys.modules:
                self._module(sys.modules[name], names.attributes)

    def _module(self, module: ModuleType, attributes: frozenset[str]) -> None:
        """A module of theirs counts with its functions and classes, and with the data asked for."""
        name = module.__name__
        if not self._is_theirs(name, getattr(module, "__file__", None) or ""):
            self._library(name, "")
            return
        held = vars(module)
        for attribute in sorted(attributes & held.keys()):
            if not isinstance(held[attribute], ModuleType):
                self._say(attribute)
                self.value(held[attribute], strict=False)
        if self._first(module):
            for attribute in sorted(held):
                value = held[attribute]
                if isinstance(value, (FunctionType, type, ModuleType)):
                    self.value(value, strict=False)

    def _class(self, kind: type) -> None:
        if not self._first(kind):
            return
        for base in kind.__mro__:
            module = sys.modules.get(base.__module__)
            file = getattr(module, "__file__", None) or ""
            if not self._is_theirs(base.__module__, file):
                self._library(base.__module__, base.__qualname__)
                continue
            self._say("class", base.__qualname__)
            for name, value in sorted(vars(base).items()):
                if _MADE_BY_PYTHON.fullmatch(name) or _by_dataclass(base, name, value):
                    continue
                self._say(name)
                self.value(value, strict=False)

    def _library(self, module: str, name: str) -> None:
        top = module.partition(".")[0]
        if top == _OURS:
            self._say("ours", module, name, digest_code(module) if ".stages." in module else "")
        else:
            told = getattr(sys.modules.get(top), "__version__", "")
            self._say("library", module, name, told if isinstance(told, str) else "")

    def _is_theirs(self, module: str, file: str) -> bool:
        top = module.partition(".")[0]
        if top == _OURS or top in sys.stdlib_module_names:
            return False
        if top == self._home:
            return True
        return not (_INSTALLED.search(file) or (file and file.startswith(_LIBRARY)))


def _inside(value: Any) -> list[Any] | None:
    """What a wrapper of functions holds; None for anything else."""
    if isinstance(value, (staticmethod, classmethod)):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, value.keywords]
    wrapped = getattr(value, "__wrapped__", None)  # such as `functools.cache` leaves
    return None if wrapped is None else [wrapped]


def _by_dataclass(kind: type, name: str, value: Any) -> bool:
    """Whether a method was written by `dataclass`: its fields are told by the parameters."""
    code = getattr(value, "__code__", None)
    return (
        is_dataclass(kind)
        and name.startswith("__")
        and name.endswith("__")
        and (code is None or code.co_filename == "<string>")
    )
