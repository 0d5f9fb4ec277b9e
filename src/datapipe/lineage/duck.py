# SPDX-License-Identifier: Apache-2.0
"""DuckDB itself, without the relations and expressions in Python that are put around it.

Loading those takes three times as long as the engine, and neither a commit nor a question of ours
builds any: `connect`, `execute` and the classes of errors are the very ones of `duckdb`. Who wants
a relation (`connection.sql`) imports `duckdb` first.
"""

from __future__ import annotations

try:
    import _duckdb as duckdb
except ModuleNotFoundError:  # a release whose parts are laid out otherwise
    import duckdb  # type: ignore[no-redef]  # the same engine

__all__ = ["duckdb"]
