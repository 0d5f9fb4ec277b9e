# SPDX-License-Identifier: Apache-2.0
"""What a parameter accepts is said once, in its type: a kind, a range, a choice.

`Stage.check` refuses what does not fit, the cards show it, and no stage repeats it in code.
"""

from __future__ import annotations

import inspect
import os
import sys
import types
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)


@dataclass(frozen=True, slots=True)
class Range:
    """A number must lie within these bounds.

    Args:
        low: The lower bound.
        high: The upper bound; None for none.
        ends: Which ends belong to it: `[]` both, `()` neither, `(]` and `[)` one.

    Example:
        >>> Range(0, 1, "(]").holds(1), Range(0, 1, "(]").holds(0), str(Range(0, 1, "(]"))
        (True, False, 'in (0, 1]')
    """

    low: float
    high: float | None = None
    ends: Literal["[]", "()", "(]", "[)"] = "[]"

    def holds(self, value: float) -> bool:
        """Whether a number lies within the bounds.

        Args:
            value: The number; a NaN lies nowhere.

        Returns:
            True when it does.

        Example:
            >>> Range(1).holds(3), Range(1).holds(float("nan"))
            (True, False)
        """
        above = value >= self.low if self.ends[0] == "[" else value > self.low
        if self.high is None:
            return above
        return above and (value <= self.high if self.ends[1] == "]" else value < self.high)

    def __str__(self) -> str:
        """The bounds as a reader writes them."""
        if self.high is None:
            return f"{'at least' if self.ends[0] == '[' else 'above'} {self.low:g}"
        return f"in {self.ends[0]}{self.low:g}, {self.high:g}{self.ends[1]}"


@dataclass(frozen=True, slots=True)
class Kept:
    """A value that fits is kept in this form, one that can be hashed and written as JSON.

    Args:
        form: From the value given to the value kept.

    Example:
        >>> Kept(os.fspath).form("a/b")
        'a/b'
    """

    form: Callable[[Any], Any]


_HINTS: weakref.WeakKeyDictionary[type[Any], dict[str, Any]] = weakref.WeakKeyDictionary()


def as_texts(given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """One text or path, or several, as a tuple of texts without empty ones.

    Args:
        given: What the user wrote.

    Returns:
        The texts in their order.

    Example:
        >>> as_texts("a"), as_texts(["a", ""]), as_texts("")
        (('a',), ('a',), ())
    """
    several = (given,) if isinstance(given, (str, os.PathLike)) else given
    return tuple(text for text in (os.fspath(one) for one in several) if text)


Count: TypeAlias = Annotated[int, Range(0)]
"""How many, 0 included."""
PositiveInt: TypeAlias = Annotated[int, Range(1)]
"""How many, at least 1."""
Positive: TypeAlias = Annotated[float, Range(0, ends="()")]
"""Any number above 0."""
Share: TypeAlias = Annotated[float, Range(0, 1)]
"""A part of a whole, none and all included."""
PositiveShare: TypeAlias = Annotated[float, Range(0, 1, "(]")]
"""A part of a whole that is not nothing."""
OpenShare: TypeAlias = Annotated[float, Range(0, 1, "()")]
"""A chance or part that is neither none nor all, such as a level of error."""
AnyPath: TypeAlias = Annotated[str | os.PathLike[str], Kept(os.fspath)]
"""A path, kept as text; empty for none."""
Paths: TypeAlias = Annotated[
    str | os.PathLike[str] | Sequence[str | os.PathLike[str]], Kept(as_texts)
]
"""A path or several, kept as a tuple of texts."""
Texts: TypeAlias = Annotated[str | Sequence[str], Kept(as_texts)]
"""A text or several, kept as a tuple."""


def keep(record: Any) -> None:
    """Bring the values of a frozen dataclass to the form in which their types say they are kept.

    Args:
        record: An instance that is being made. What does not fit stays as it is, for `problems`.

    Example:
        >>> @dataclass(frozen=True)
        ... class Files:
        ...     where: Annotated[Sequence[str], Kept(tuple)]
        ...     def __post_init__(self) -> None:
        ...         keep(self)
        >>> Files(["a", "b"]).where
        ('a', 'b')
    """
    for name, hint in hints_of(type(record)).items():
        for kept in (a for a in getattr(hint, "__metadata__", ()) if isinstance(a, Kept)):
            value = getattr(record, name)
            if not _misfit(hint, value):
                object.__setattr__(record, name, kept.form(value))


def problems(record: Any) -> list[str]:
    """What is wrong with the values of a dataclass, by the types that its fields declare.

    Args:
        record: An instance. A type that its module does not know is not checked.

    Returns:
        A clause for each field that does not fit, such as `alpha=2 must lie in (0, 1)`.

    Example:
        >>> problems(Range("low", 1, "[["))
        ["low='low' must be a number", "ends='[[' is none of [], (), (], [)"]
    """
    told = []
    for name, hint in hints_of(type(record)).items():
        value = getattr(record, name)
        if wrong := _misfit(hint, value):
            told.append(f"{name}={_shown(value)} {wrong}")
    return told


def hints_of(cls: type[Any]) -> dict[str, Any]:
    """The types of a dataclass's fields, ranges included, in their order.

    Args:
        cls: The dataclass.

    Returns:
        Field name to type; `Any` where a name in it cannot be found.

    Example:
        >>> list(hints_of(Range))
        ['low', 'high', 'ends']
    """
    if cls in _HINTS:
        return _HINTS[cls]
    homes = {
        name: c.__module__ for c in reversed(cls.__mro__) for name in inspect.get_annotations(c)
    }
    read = {f.name: _resolved(f.type, homes.get(f.name, cls.__module__)) for f in fields(cls)}
    return _HINTS.setdefault(cls, read)


def spelled(hint: Any) -> str:
    """A type as a reader writes it, ranges and choices in full.

    Args:
        hint: The type, as `hints_of` gives it.

    Returns:
        Text such as `float in (0, 1)`.

    Example:
        >>> spelled(OpenShare), spelled(Literal["a", "b"] | None), spelled(tuple[str, ...])
        ('float in (0, 1)', "'a' | 'b' | None", 'tuple[str, ...]')
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([spelled(args[0]), *(str(a) for a in args[1:] if isinstance(a, Range))])
    if origin is Literal:
        return " | ".join(map(repr, args))
    if origin in (Union, types.UnionType):
        return " | ".join(map(spelled, args))
    name = "None" if hint is type(None) else getattr(hint, "__name__", str(hint))
    if origin is None or origin is Callable:
        return name
    return f"{name}[{', '.join('...' if a is Ellipsis else spelled(a) for a in args)}]"


def _resolved(hint: Any, module: str) -> Any:
    """The type behind its text, read where its class was written."""
    if not isinstance(hint, str):
        return hint
    written = types.SimpleNamespace(__annotations__={"it": hint})
    names = getattr(sys.modules.get(module), "__dict__", {})
    try:
        return get_type_hints(written, globalns=names, include_extras=True)["it"]
    except NameError:  # a class inside a function names what only the function sees
        return Any


def _misfit(hint: Any, value: Any) -> str:
    """What a value should have been; empty when it fits."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is not None:
        return _BY_ORIGIN[origin](args, value) if origin in _BY_ORIGIN else _instance(origin, value)
    if hint in _KINDS:
        kind, called = _KINDS[hint]
        fits = isinstance(value, kind) and (hint is bool or not isinstance(value, bool))
        return "" if fits and value == value else f"must be {called}"  # noqa: PLR0124 - no NaN
    return _instance(hint, value) if isinstance(hint, type) else ""


def _annotated(args: tuple[Any, ...], value: Any) -> str:
    if wrong := _misfit(args[0], value):
        return wrong
    for bound in args[1:]:
        if isinstance(bound, Range) and not bound.holds(value):
            return f"must {'lie' if bound.high is not None else 'be'} {bound}"
    return ""


def _one_of(args: tuple[Any, ...], value: Any) -> str:
    if any(type(value) is type(a) and value == a for a in args):
        return ""
    if len(args) == 1:
        return f"must be {args[0]}"
    return f"is none of {', '.join(str(a) or repr(a) for a in args)}"


def _any_of(args: tuple[Any, ...], value: Any) -> str:
    told = [_misfit(arg, value) for arg in args]
    return "" if "" in told else told[0]


def _tuple(args: tuple[Any, ...], value: Any) -> str:
    if not isinstance(value, tuple):
        return "must be a tuple"
    kinds = args[:1] * len(value) if args[1:] == (...,) else args
    if len(kinds) != len(value):
        return f"must hold {len(kinds)} values"
    return _items(kinds, value)


def _sequence(args: tuple[Any, ...], value: Any) -> str:
    if isinstance(value, str):
        return _misfit(args[0], value)
    return _instance(Sequence, value) or _items(args[:1] * len(value), value)


def _items(kinds: tuple[Any, ...], values: Sequence[Any]) -> str:
    told = ((v, _misfit(kind, v)) for kind, v in zip(kinds, values, strict=True))
    return next((f"holds {_shown(v)}, which {wrong}" for v, wrong in told if wrong), "")


def _instance(kind: Any, value: Any) -> str:
    try:
        fits = isinstance(value, kind)
    except TypeError:  # Any and most protocols cannot be asked for
        return ""
    return "" if fits else f"must be of the type {kind.__name__}"


def _shown(value: Any) -> str:
    """A value that is short enough to stand in a sentence."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_KINDS: dict[Any, tuple[Any, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
    bool: (bool, "True or False"),
}
_BY_ORIGIN: dict[Any, Callable[[tuple[Any, ...], Any], str]] = {
    Annotated: _annotated,
    Literal: _one_of,
    Union: _any_of,
    types.UnionType: _any_of,
    tuple: _tuple,
    Sequence: _sequence,
    Callable: lambda _, value: "" if callable(value) else "must be callable",
}
