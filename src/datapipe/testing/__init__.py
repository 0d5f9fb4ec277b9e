# SPDX-License-Identifier: Apache-2.0
"""What authors of stages run: `check_stage`, worlds with known truth, a scaffold.

from datapipe.testing import check_stage
print(check_stage(MyStage()))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe._lazy import upward

if TYPE_CHECKING:
    from datapipe.testing.conformance import Check, ConformanceReport, check_stage
    from datapipe.testing.scaffold import new_stage
    from datapipe.testing.small import small_run
    from datapipe.testing.worlds import World, digits_world

_HOMES = {
    "Check": "conformance",
    "ConformanceReport": "conformance",
    "World": "worlds",
    "check_stage": "conformance",
    "digits_world": "worlds",
    "new_stage": "scaffold",
    "small_run": "small",
}

__all__ = [
    "Check",
    "ConformanceReport",
    "World",
    "check_stage",
    "digits_world",
    "new_stage",
    "small_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return upward(f"{__name__}.{_HOMES[name]}", name)


def __dir__() -> list[str]:
    return sorted(__all__)
