# SPDX-License-Identifier: Apache-2.0
"""The rows that stages are tried on hold what they promise."""

from __future__ import annotations

import polars as pl
import pytest

from datapipe.core.roles import ROLES
from datapipe.core.stage import Stage
from datapipe.stages import CATALOGUE, find
from datapipe.testing import rows


class AsksAll(Stage):
    """Needs every role there is."""

    needs = ROLES


EVERYTHING = rows.ordinary_rows(AsksAll())


def test_every_role_has_a_column():
    assert set(EVERYTHING.roles.columns) == set(ROLES)
    assert EVERYTHING.features == ["x0", "x1"]


def test_they_are_the_same_on_every_call():
    assert rows.ordinary_rows(AsksAll()).digest == EVERYTHING.digest


def test_the_classes_can_be_told_apart():
    frame = EVERYTHING.frame(["label", "x0"])
    means = frame.group_by("label").agg(pl.col("x0").mean()).sort("label")["x0"]
    assert means[1] - means[0] > 0.8


@pytest.mark.parametrize(
    ("make", "expected"),
    [(rows.no_rows, 0), (rows.one_row, 1), (rows.all_null, 150), (rows.one_class, 150)]
    + [(make, 150) for make in (rows.awkward_text, rows.wide_types, rows.shuffled)],
)
def test_variants_keep_columns_roles_and_length(make, expected):
    made = make(EVERYTHING)
    assert len(made) == expected
    assert made.roles == EVERYTHING.roles
    assert made.names[: len(EVERYTHING.names)] == EVERYTHING.names


def test_nulls_are_null_and_awkward_is_awkward():
    assert rows.all_null(EVERYTHING).frame().null_count().row(0) == (150,) * 12
    assert set(rows.AWKWARD) <= set(rows.awkward_text(EVERYTHING).values("text"))
    kinds = {kind.base_type() for kind in rows.wide_types(EVERYTHING).types.values()}
    assert {pl.Decimal, pl.UInt64, pl.Date, pl.List, pl.Null} <= kinds


def test_parts_put_together_are_the_whole():
    parts = [rows.part(EVERYTHING, a, b).frame(row_id=True) for a, b in ((0, 70), (70, 150))]
    assert pl.concat(parts).equals(EVERYTHING.frame(row_id=True))


def test_the_roles_that_stages_ask_for_can_be_made():
    needs = {need.split("|")[0] for key in CATALOGUE for need in find(key).needs}
    assert needs <= set(EVERYTHING.names)
