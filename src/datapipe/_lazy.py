# SPDX-License-Identifier: Apache-2.0
"""Names that load on first use, so that `import datapipe` stays light.

Floors only import downwards. The two places where a noun hands over to the floor above it
(`Pipeline.run` to the executor, `Run.report` to the report) do so by name, through `upward`.
"""

from __future__ import annotations

import gc
import importlib
from types import ModuleType
from typing import Any


def loaded(module: str) -> ModuleType:
    """A module, with the search for garbage put off until it is there.

    Loading makes much that stays and hardly any garbage, which Python would look through again and
    again: a seventh of the time it takes to load the executor.

    Args:
        module: Its dotted name.

    Returns:
        The module.

    Example:
        >>> loaded("datapipe.errors").__name__
        'datapipe.errors'
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if collects:
            gc.enable()


def upward(module: str, name: str) -> Any:
    """A name of a higher floor, loaded when it is needed.

    Args:
        module: Dotted name of the module.
        name: The attribute.

    Returns:
        The attribute.

    Example:
        >>> upward("datapipe.core.estimate", "Estimate").__name__
        'Estimate'
    """
    return getattr(loaded(module), name)
