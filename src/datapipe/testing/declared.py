# SPDX-License-Identifier: Apache-2.0
"""Checks of what a stage declares: parameters, key, roles, kinds of finding; nothing is run.

A check yields a sentence for each problem, and raises `Skip` where it does not apply.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path

import pyarrow as pa

from datapipe.core.digest import canonical
from datapipe.core.function import FunctionStage
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import ROLES
from datapipe.core.stage import KEPT_BY_THE_EXECUTOR, Reader
from datapipe.errors import DeclarationError
from datapipe.testing.trial import Skip, Trial

KINDS = ("model", "export", "table", "picture", "receipt", *KEPT_BY_THE_EXECUTOR)
OneCheck = Callable[[Trial], Iterator[str]]


def _frozen(trial: Trial) -> Iterator[str]:
    """It is a frozen dataclass: nothing about it changes after it was made."""
    if not is_dataclass(trial.stage):
        yield f"{type(trial.stage).__name__} is no dataclass"
        return
    for f in fields(trial.stage):
        try:
            setattr(trial.stage, f.name, getattr(trial.stage, f.name))
        except FrozenInstanceError:
            continue
        yield f"the field {f.name} can be set: declare it with @dataclass(frozen=True)"


def _key(trial: Trial) -> Iterator[str]:
    """Its key reads family.method and it has a version."""
    stage = trial.stage
    parts = stage.name.split(".")
    if stage.name != "gate" and (len(parts) < 2 or not all(p.isidentifier() for p in parts)):
        yield f"{stage.name!r} is no key of the form family.method"
    if not stage.version:
        yield "it has no version"


def _parameters(trial: Trial) -> Iterator[str]:
    """Its parameters are stored as they were given, and find nothing wrong with themselves."""
    for name, value in trial.stage.params().items():
        if not isinstance(trial.stage, FunctionStage) and getattr(trial.stage, name) is not value:
            yield f"params()[{name!r}] is not the field"
    problems = trial.stage.check()
    if not isinstance(problems, list) or not all(isinstance(p, str) for p in problems):
        yield "check() must give a list of sentences"
    yield from (f"check() says: {p}" for p in problems)


def _bad_action(trial: Trial) -> Iterator[str]:
    """An unknown `on_finding` is told before a byte is read."""
    if "on_finding" not in trial.stage.params():
        raise Skip("it has no on_finding")
    if not replace(trial.stage, on_finding="explode").check():  # type: ignore[call-arg]  # has it
        yield "check() does not tell an unknown on_finding; call super().check()"


def _text_form(trial: Trial) -> Iterator[str]:
    """Its repr names the class and is short enough to read."""
    text = repr(trial.stage)
    if type(trial.stage).__name__ not in text:
        yield "its repr does not name its class"
    if len(text.splitlines()) > 10:
        yield "its repr is longer than ten lines"


def _equality(trial: Trial) -> Iterator[str]:
    """Equal parameters make equal stages with equal hashes."""
    twin = replace(trial.stage)
    if twin != trial.stage:
        yield "a copy with the same parameters is not equal"
    try:
        if hash(twin) != hash(trial.stage):
            yield "equal stages have unequal hashes"
    except TypeError as error:
        yield f"it has no hash: {error}"


def _travels(trial: Trial) -> Iterator[str]:
    """It survives the way to another process, as a cluster needs it."""
    if isinstance(trial.stage, FunctionStage):
        raise Skip("a decorated function travels with its module")
    again = pickle.loads(pickle.dumps(trial.stage))  # noqa: S301 - our own bytes, made one call ago
    if again != trial.stage:
        yield "it is another stage after the journey"


def _json_form(trial: Trial) -> Iterator[str]:
    """Its parameters survive JSON: the rebuilt stage has the same canonical form."""
    params = trial.stage.params()
    if not params or isinstance(trial.stage, FunctionStage):
        raise Skip("it has no fields")
    try:
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in params.items()}
        form = json.loads(json.dumps(plain))
    except TypeError as error:
        raise Skip(str(error)) from error
    if canonical(type(trial.stage)(**form).params()) != canonical(params):
        yield "the stage rebuilt from JSON has other parameters"


def _roles(trial: Trial) -> Iterator[str]:
    """The roles and artifacts it names exist."""
    stage = trial.stage
    for need in stage.needs:
        yield from (f"needs {r!r}, which is no role" for r in need.split("|") if r not in ROLES)
    for name in (*stage.gives, *stage.uses, *stage.changes):
        if name not in ROLES and name not in KINDS:
            yield f"{name!r} is neither a role nor a kind of artifact"


def _missing_role(trial: Trial) -> Iterator[str]:
    """Without a role it needs, the plan is refused before a byte is read."""
    if not trial.stage.needs or isinstance(trial.stage, Reader):
        raise Skip("it needs no role")
    try:
        Pipeline("trial", [trial.stage]).plan(pa.table({"nothing": [1]}))
    except DeclarationError as error:
        if not any("role" in problem for problem in error.problems):
            yield f"the refusal does not name the role: {error.message}"
        return
    yield "a plan without its roles was accepted"


def _code_digest(trial: Trial) -> Iterator[str]:
    """Its code has a digest, the same on every call."""
    one, two = trial.stage.code_digest(), trial.stage.code_digest()
    if one != two or not one.startswith("sha256:"):
        yield f"the digest of its code is {one!r}, then {two!r}"


def _lazy(trial: Trial) -> Iterator[str]:
    """Its module is loaded when it is asked for, not when the catalogue is imported."""
    module = type(trial.stage).__module__
    if not module.startswith("datapipe.stages."):
        raise Skip("it is not in the catalogue")
    code = f"import sys, datapipe.stages; sys.exit({module!r} in sys.modules)"
    # A fresh interpreter, since this one has loaded the module long ago.
    done = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603 - our own code
    if done.returncode:
        yield f"import datapipe.stages loads {module}"


DECLARED: tuple[OneCheck, ...] = (
    _frozen,
    _key,
    _parameters,
    _bad_action,
    _text_form,
    _equality,
    _travels,
    _json_form,
    _roles,
    _missing_role,
    _code_digest,
    _lazy,
)
