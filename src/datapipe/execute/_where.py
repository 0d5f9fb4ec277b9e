# SPDX-License-Identifier: Apache-2.0
"""Where in a pipeline an error came up: a stage's own words need not say whose they are."""

from __future__ import annotations

from datapipe.core.stage import Reader, Stage
from datapipe.errors import DataError, DatapipeError, DeclarationError


def name_the_stage(error: DatapipeError, stage: Stage) -> None:
    """Put the stage before what it says of data or declaration; a reader names its file instead.

    Args:
        error: One of ours, on its way out of a stage's `run`.
        stage: The stage.

    Example:
        >>> class Count(Stage):
        ...     name = "demo.count"
        >>> error = DataError("there is no column 'a'")
        >>> name_the_stage(error, Count())
        >>> error.message
        "demo.count: there is no column 'a'"
    """
    named = isinstance(stage, Reader) or stage.name in error.message
    if isinstance(error, (DataError, DeclarationError)) and not named:
        error.message = f"{stage.name}: {error.message}"
