# SPDX-License-Identifier: Apache-2.0
"""The command `datapipe`, and `python -m datapipe`: one is told of Ctrl-C from the first moment."""

from __future__ import annotations

import sys


def main() -> int:
    """Load the command line and run it.

    Returns:
        The exit code; 130 when Ctrl-C came before there was anything to interrupt.

    Example:
        >>> main.__module__
        'datapipe.__main__'
    """
    try:
        from datapipe.cli.app import main as command  # noqa: PLC0415 - Ctrl-C may come meanwhile
    except KeyboardInterrupt:
        sys.stderr.write("interrupted [DP-EXEC-130]\n\nhint: run the same command again\n")
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
