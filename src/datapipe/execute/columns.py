# SPDX-License-Identifier: Apache-2.0
"""Which columns a step made its columns from, read off its plan; what is not known is not told.

`*` stands for every column that the step does not name otherwise: a table of a thousand columns of
which one changed takes two records. How: `copied`, `derived` (computed from), or `filtered` (rows
were set aside by it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import polars as pl
import polars.selectors as cs

from datapipe.core.locality import parts
from datapipe.core.roles import HIDDEN, Roles
from datapipe.core.stage import RowStage, Stage

Edge: TypeAlias = tuple[str, str, str]
"""Column that was made, column it was made from, and how."""

ALL = "*"
COPIED: Edge = (ALL, ALL, "copied")


def planned_edges(
    stages: Sequence[Stage], roles: Roles, types: Mapping[str, pl.DataType]
) -> list[list[Edge]]:
    """The edges of row stages, in order, from their expressions.

    Args:
        stages: Row stages; anything else among them passes columns on as they are.
        roles: Roles of the rows before them.
        types: Columns before them, with their types.

    Returns:
        A list for each stage.

    Example:
        >>> class Louder(RowStage):
        ...     name = "demo.louder"
        ...     def columns(self, roles, types):
        ...         return {"loud": pl.col("text").str.to_uppercase()}
        >>> planned_edges([Louder()], Roles(), {"text": pl.String()})
        [[('*', '*', 'copied'), ('loud', 'text', 'derived')]]
    """
    frame = pl.LazyFrame(schema=dict(types))
    found: list[list[Edge]] = []
    for stage in stages:
        edges = [COPIED]
        if isinstance(stage, RowStage):
            schema = frame.collect_schema()
            visible = pl.Schema({n: t for n, t in schema.items() if n not in HIDDEN})
            for condition in stage.set_aside(roles, visible).values():
                edges += [(ALL, name, "filtered") for name in _roots(condition, visible)]
            made = stage.columns(roles, visible)
            for name, expression in made.items():
                roots = _roots(expression, visible)
                same = roots == [name] and expression.meta.is_column()
                edges += [(name, root, "copied" if same else "derived") for root in roots]
                if not roots:
                    edges.append((name, "", "derived"))
            frame = frame.with_columns(**made)
        found.append(list(dict.fromkeys(edges)))
    return found


def passed_edges(*, relabelled: Sequence[str] = ()) -> list[Edge]:
    """The edges of a whole stage that gave no rows of its own: rows may leave, labels may change.

    Args:
        relabelled: Columns whose values it changed.

    Returns:
        The edges.

    Example:
        >>> passed_edges(relabelled=["stars"])
        [('*', '*', 'copied'), ('stars', 'stars', 'derived')]
    """
    return [COPIED, *((name, name, "derived") for name in relabelled)]


def _roots(expression: pl.Expr, visible: pl.Schema) -> list[str]:
    """The columns that an expression reads, those that a selector or pattern stands for as well."""
    names: list[str] = []
    for part in (expression, *parts(expression)):
        if part.meta.is_column():
            names.append(part.meta.output_name())
        elif part.meta.is_column_selection():
            names += cs.expand_selector(visible, part.meta.as_selector(), strict=False)
    names += expression.meta.root_names()
    return [n for n in dict.fromkeys(names) if n in visible]
