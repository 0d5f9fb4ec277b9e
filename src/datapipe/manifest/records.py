# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to strict JSON and back, and the JSON Schema that says the same.

One description, the types, gives all three: what is written, what is accepted, what is published.
Python names are written in lowerCamelCase, as in-toto asks; fields that are None are left out.
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from datapipe.core.parameters import Range, hints_of
from datapipe.errors import TrustError
from datapipe.manifest.checks import Reason

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text must match this, whole.

    Args:
        regex: A regular expression that ECMAScript and Python read alike.
        says: What it stands for, in words.

    Example:
        >>> Pattern("^[0-9a-f]{64}$", "a sha256").says
        'a sha256'
    """

    regex: str
    says: str


def to_form(value: Any) -> Any:
    """Turn a record into the JSON value that stands for it.

    Args:
        value: A dataclass instance, or anything that may be a field of one.

    Returns:
        None, bool, int, float, str, list or dict; NaN and infinities become None.

    Example:
        >>> @dataclass(frozen=True)
        ... class Span:
        ...     first_row: int
        ...     note: str | None = None
        >>> to_form(Span(3))
        {'firstRow': 3}
    """
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((field, getattr(value, field.name)) for field in fields(value))
        return {camel(field.name): to_form(item) for field, item in pairs if item is not None}
    if isinstance(value, Mapping):
        return {key: to_form(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_form(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_form(cls: type[Record], form: Any, where: str) -> Record:
    """Build a record from JSON that somebody else wrote.

    Args:
        cls: The dataclass.
        form: The parsed JSON.
        where: Its name, for messages.

    Returns:
        The record, every field checked.

    Raises:
        TrustError: A field is unknown, missing, of the wrong type or out of range.

    Example:
        >>> @dataclass(frozen=True)
        ... class Span:
        ...     first_row: int
        >>> from_form(Span, {"firstRow": 3}, "span")
        Span(first_row=3)
    """
    if not isinstance(form, dict):
        raise _misfit(where, "an object", form)
    hints = hints_of(cls)
    known = {camel(name): name for name in hints}
    unknown = sorted(set(form) - set(known))
    if unknown:
        raise TrustError(
            f"{where}: unknown fields {unknown}",
            code=Reason.UNKNOWN_FIELD.value,
            hint="it may be of a later version; update, or ask its author",
        )
    required = [camel(f.name) for f in fields(cls) if _required(f)]  # type: ignore[arg-type]  # records are dataclasses
    missing = [name for name in required if name not in form]
    if missing:
        raise _misfit(where, f"the fields {missing}", "none")
    values = {
        known[key]: _read(hints[known[key]], item, f"{where}.{key}") for key, item in form.items()
    }
    return cls(**values)


def schema_of(cls: type[Any]) -> dict[str, Any]:
    """The JSON Schema (2020-12) that accepts what `from_form` accepts.

    Args:
        cls: The dataclass.

    Returns:
        An object schema, inner records in place.

    Example:
        >>> @dataclass(frozen=True)
        ... class Span:
        ...     first_row: int
        >>> schema_of(Span)["required"]
        ['firstRow']
    """
    hints = hints_of(cls)
    described = arguments_of(cls)
    properties = {}
    for name, hint in hints.items():
        properties[camel(name)] = {**_schema(hint), "description": described.get(name, "")}
    return {
        "type": "object",
        "description": _text(cls).split("\n\n")[0].replace("\n", " "),
        "properties": properties,
        "required": [camel(field.name) for field in fields(cls) if _required(field)],
        "additionalProperties": False,
    }


def arguments_of(cls: type[Any]) -> dict[str, str]:
    """What the docstring says about each field, for schemas and pages.

    Args:
        cls: A dataclass with a Google `Args:` section.

    Returns:
        Field name to its sentence.

    Example:
        >>> arguments_of(Pattern)["says"]
        'What it stands for, in words.'
    """
    section = _text(cls).partition("Args:\n")[2]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        start = re.match(r" {4}(\w+): (.*)", line)
        if start:
            name = start[1]
            found[name] = start[2]
        elif line.startswith(" " * 8) and name:
            found[name] += " " + line.strip()
        elif line.strip() and not line.startswith(" " * 4):
            break
    return found


def _text(cls: type[Any]) -> str:
    """Its docstring without indentation, which Python takes away itself from 3.13 on."""
    return inspect.cleandoc(cls.__doc__ or "")


def camel(name: str) -> str:
    """A Python name as in-toto writes it.

    Args:
        name: A name in snake_case.

    Returns:
        The name in lowerCamelCase.

    Example:
        >>> camel("recorded_at")
        'recordedAt'
    """
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _read(hint: Any, form: Any, where: str) -> Any:
    """Read one value; the kind of its type decides how."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is not None:
        return _READERS[origin](args, form, where)
    if hint is Any:
        return form
    if isinstance(hint, type) and is_dataclass(hint):
        return from_form(hint, form, where)
    return _plain(hint, form, where)


def _read_optional(args: tuple[Any, ...], form: Any, where: str) -> Any:
    return None if form is None else _read(_inner(args), form, where)


def _read_choice(args: tuple[Any, ...], form: Any, where: str) -> Any:
    if not isinstance(form, str) or form not in args:
        raise _misfit(where, " or ".join(map(repr, args)), form)
    return form


def _read_list(args: tuple[Any, ...], form: Any, where: str) -> Any:
    if not isinstance(form, list):
        raise _misfit(where, "a list", form)
    return tuple(_read(args[0], item, f"{where}[{i}]") for i, item in enumerate(form))


def _read_mapping(args: tuple[Any, ...], form: Any, where: str) -> Any:
    if not isinstance(form, dict):
        raise _misfit(where, "an object", form)
    return {
        _read(args[0], key, where): _read(args[1], item, f"{where}.{key}")
        for key, item in form.items()
    }


def _inner(args: tuple[Any, ...]) -> Any:
    """What an optional type may be beside None."""
    return next(arg for arg in args if arg is not type(None))


_READERS: dict[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {
    Annotated: lambda args, form, where: _bounded(_read(args[0], form, where), args[1], where),
    Union: _read_optional,
    types.UnionType: _read_optional,
    Literal: _read_choice,
    tuple: _read_list,
    Mapping: _read_mapping,
}


def _plain(hint: Any, form: Any, where: str) -> Any:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    fits = isinstance(form, (int, float) if hint is float else hint)
    if not fits or (isinstance(form, bool) and hint is not bool):
        raise _misfit(where, names[hint], form)
    return form


def _bounded(value: Any, bound: Pattern | Range, where: str) -> Any:
    if isinstance(bound, Pattern):
        if not re.fullmatch(bound.regex, value):
            raise _misfit(where, bound.says, value)
    elif not bound.holds(value):
        raise _misfit(where, f"a number {bound}", value)
    return value


def _schema(hint: Any) -> dict[str, Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin is not None:
        return _SCHEMAS[origin](args)
    if isinstance(hint, type) and is_dataclass(hint):
        return schema_of(hint)
    return dict(_PLAIN_SCHEMAS[hint])


def _schema_mapping(args: tuple[Any, ...]) -> dict[str, Any]:
    names = _schema(args[0])
    form = {"type": "object", "additionalProperties": _schema(args[1])}
    return form if names == {"type": "string"} else {**form, "propertyNames": names}


def _schema_optional(args: tuple[Any, ...]) -> dict[str, Any]:
    return {"anyOf": [_schema(_inner(args)), {"type": "null"}]}


_PLAIN_SCHEMAS: dict[Any, dict[str, str]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Any: {},
}
_SCHEMAS: dict[Any, Callable[[tuple[Any, ...]], dict[str, Any]]] = {
    Annotated: lambda args: {**_schema(args[0]), **_schema_bound(args[1])},
    Union: _schema_optional,
    types.UnionType: _schema_optional,
    Literal: lambda args: {"enum": list(args)},
    tuple: lambda args: {"type": "array", "items": _schema(args[0])},
    Mapping: _schema_mapping,
}


def _schema_bound(bound: Pattern | Range) -> dict[str, Any]:
    if isinstance(bound, Pattern):
        return {"pattern": bound.regex}
    low = "minimum" if bound.ends[0] == "[" else "exclusiveMinimum"
    high = "maximum" if bound.ends[1] == "]" else "exclusiveMaximum"
    return {low: bound.low} | ({} if bound.high is None else {high: bound.high})


def _misfit(where: str, expected: str, found: Any) -> TrustError:
    shown = found if isinstance(found, (int, float)) else type(found).__name__
    if isinstance(found, str):
        shown = repr(found[:40])
    return TrustError(
        f"{where}: {expected} expected, found {shown}",
        code=Reason.BAD_FORM.value,
        hint="compare with the schema of this predicate in manifests/schemas",
    )
