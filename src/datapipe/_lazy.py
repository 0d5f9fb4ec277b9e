# SPDX-License-Identifier: Apache-2.0
"""Names that load on first use, so that `import datapipe` stays light.

Floors only import downwards. The two places where a noun hands over to the floor above it
(`Pipeline.run` to the executor, `Run.report` to the report) do so by name, through `upward`.
"""

from __future__ import annotations

import importlib
from typing import Any


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
    return getattr(importlib.import_module(module), name)
