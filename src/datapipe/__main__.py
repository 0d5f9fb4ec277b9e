# SPDX-License-Identifier: Apache-2.0
"""`python -m datapipe`: the same as the command `datapipe`."""

from __future__ import annotations

import sys

from datapipe.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
