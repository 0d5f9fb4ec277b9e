# SPDX-License-Identifier: Apache-2.0
"""Finds the pipeline in a user's Python file; what goes wrong there is told with file and line."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from datapipe.cli.options import existing
from datapipe.cli.terminal import strangers_at_work
from datapipe.core.pipeline import Pipeline
from datapipe.errors import DatapipeError, DeclarationError, nearest

_UNEXPECTED = re.compile(
    r"(?:\w+\.)*?(\w+)(?:\.__init__)?\(\) got an unexpected keyword .*?'(\w+)'"
)


def load_pipeline(address: str) -> Pipeline:
    """The pipeline that `FILE.py` or `FILE.py:NAME` names.

    The file is the user's own code and is run, as `python FILE.py` would; what stands under
    `if __name__ == "__main__"` is not.

    Args:
        address: A path, with the name of a module-level `Pipeline` behind a colon if there are
            several.

    Returns:
        The pipeline.

    Raises:
        DeclarationError: The file is missing, fails, or holds no such pipeline.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "p.py"
        >>> _ = file.write_text("from datapipe import Pipeline; clean = Pipeline('reviews', [])")
        >>> load_pipeline(f"{file}:clean").name
        'reviews'
    """
    path, name = _split(address)
    module = _run_file(existing(path))
    found = {k: v for k, v in vars(module).items() if isinstance(v, Pipeline)}
    if name:
        if name not in found:
            raise DeclarationError(
                f"{path}: there is no pipeline {name!r}",
                code="DP-USE-011",
                hint=nearest(name, found) if found else "make one at the top level of the file",
            )
        return found[name]
    distinct = {id(p): p for p in found.values()}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    raise DeclarationError(
        f"{path} holds {len(distinct)} pipelines at its top level; one was expected",
        code="DP-USE-011",
        hint=f"name one: {path}:{next(iter(found))}" if found else "assign Pipeline(...) to a name",
    )


def _split(address: str) -> tuple[str, str]:
    path, colon, name = address.rpartition(":")
    return (path, name) if colon and name.isidentifier() else (address, "")


def _run_file(path: Path) -> ModuleType:
    if not path.is_file() or path.suffix != ".py":
        raise DeclarationError(
            f"{path} is no Python file", code="DP-USE-012", hint="name a file such as pipeline.py"
        )
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise DeclarationError(f"{path} cannot be loaded", code="DP-USE-012")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        with strangers_at_work():
            spec.loader.exec_module(module)
    except DatapipeError as error:
        error.message = f"{_place(path, error)}: {error.message}"
        raise
    except TypeError as error:
        raise DeclarationError(
            f"{_place(path, error)}: TypeError: {error}",
            code="DP-USE-013",
            hint=_meant(str(error), vars(module)) or "mend the file; -vv shows the traceback",
        ) from error
    except (Exception, SystemExit) as error:  # `sys.exit(0)` there would look like a finished run
        raise DeclarationError(
            f"{_place(path, error)}: {type(error).__name__}: {error}",
            code="DP-USE-013",
            hint="mend the file; -vv shows the traceback",
        ) from error
    return module


def _meant(told: str, names: Mapping[str, Any]) -> str:
    """The closest parameters, where a class or function of the file was given one it has not."""
    found = _UNEXPECTED.match(told)
    called = names.get(found[1]) if found else None
    if found is None or not callable(called):
        return ""
    known = [name for name in inspect.signature(called).parameters if not name.startswith("_")]
    return nearest(found[2], known, most=1)


def _place(path: Path, error: BaseException) -> str:
    """The file and the line in it that failed."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        f.lineno for f in frames if Path(f.filename) == path.absolute() or f.filename == str(path)
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)
