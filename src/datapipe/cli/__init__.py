# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a verb, each loaded only when its verb is called.

stdout carries data and nothing else; progress, warnings and errors go to stderr. Every verb takes
`-q`, `-v`, `-vv` and `--no-color`; `--json` prints one JSON value. Exit codes are in `exits`.
"""

from __future__ import annotations

import gc

# Loading modules makes many objects and no garbage; at Python's default of 700 the collector would
# take a seventh of a command's start to find none.
gc.set_threshold(50_000, 10, 10)
