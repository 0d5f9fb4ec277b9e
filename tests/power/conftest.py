# SPDX-License-Identifier: Apache-2.0
"""The long measurements run when they are asked for, with `-m power`."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "power" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("power"):
            item.add_marker(pytest.mark.skip(reason="all seeds take minutes: `make power`"))
