# SPDX-License-Identifier: Apache-2.0
"""Names of licences as addresses, for forms that want one."""

from __future__ import annotations

import re

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


def licence_url(licence: str) -> str:
    """The address of a licence's text.

    Args:
        licence: An SPDX id, an expression, an address or a name.

    Returns:
        The SPDX page of a single id; anything else as it stands.

    Example:
        >>> licence_url("CC0-1.0"), licence_url("MIT OR Apache-2.0")
        ('https://spdx.org/licenses/CC0-1.0', 'MIT OR Apache-2.0')
    """
    return f"https://spdx.org/licenses/{licence}" if _ID.fullmatch(licence) else licence
