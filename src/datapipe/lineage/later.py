# SPDX-License-Identifier: Apache-2.0
"""What is due when the program ends: the index of each store that a run left to others."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from pathlib import Path

from datapipe.errors import DatapipeError

log = logging.getLogger("datapipe.lineage")

_due: dict[Path, Callable[[], object]] = {}


def at_exit(store: Path, work: Callable[[], object]) -> None:
    """Put something off until the program ends; once a store, the newest counts.

    It is work that anybody can make up for: a program that is killed never does it.

    Args:
        store: The store that it is about.
        work: What to do then.

    Example:
        >>> at_exit(Path("no-such-store"), print)
        >>> done(Path("no-such-store"))
    """
    _due[store.absolute()] = work


def done(store: Path | None = None) -> None:
    """Nothing is due any more: it was done.

    Args:
        store: The store that it is about; None for all of them.

    Example:
        >>> done(Path("no-such-store"))
    """
    if store is None:
        _due.clear()
    else:
        _due.pop(store.absolute(), None)


@atexit.register
def _now() -> None:
    """Do it; a store that is gone by now needs nothing, and what fails is made up for later."""
    while _due:
        store, work = _due.popitem()
        try:
            if store.is_dir():
                work()
        except (DatapipeError, OSError, KeyboardInterrupt, RuntimeError) as error:
            # a RuntimeError is how DuckDB tells of Ctrl-C
            log.info("the index of %s is left to the next question: %s", store, error)
