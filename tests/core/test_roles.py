# SPDX-License-Identifier: Apache-2.0
"""Roles name columns, spell out patterns and tell what is not there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.roles import ROLES, ROW_ID, Roles
from datapipe.errors import DeclarationError, SchemaMismatch

names = st.text("abcdefgh_0123456789", min_size=1, max_size=8)
roles = st.dictionaries(
    st.sampled_from(ROLES), st.lists(names, min_size=1, max_size=3, unique=True).map(tuple)
).map(Roles)


@given(roles, roles)
def test_the_second_wins_where_both_name_a_role(one, other):
    merged = one.merged(other)
    for role in ROLES:
        assert merged.all(role) == (other.all(role) or one.all(role))


@given(roles)
def test_order_of_giving_does_not_count(made):
    again = Roles(dict(reversed(list(made.columns.items()))))
    assert again == made
    assert hash(again) == hash(made)


@given(roles)
def test_resolving_plain_names_changes_nothing(made):
    schema = {c for columns in made.columns.values() for c in columns}
    assert made.resolved(schema, where="here") == made


@given(roles)
def test_json_and_back(made):
    assert Roles({r: tuple(c) for r, c in made.to_json().items()}) == made


def test_patterns_keep_the_order_of_the_schema():
    schema = ["p10", "y", "p2", ROW_ID]
    assert Roles.of(image="p*").resolved(schema, where="a.csv").all("image") == ("p10", "p2")


def test_a_column_whose_name_has_a_star_is_taken_as_it_is():
    assert Roles.of(text="a*").resolved(["a*", "ab"], where="f").all("text") == ("a*",)


def test_the_hidden_column_plays_no_role():
    with pytest.raises(SchemaMismatch, match="no column"):
        Roles.of(id=ROW_ID).resolved(["a", ROW_ID], where="f")


def test_a_missing_column_is_told_with_the_nearest_name():
    with pytest.raises(SchemaMismatch, match=r"a\.csv: there is no column 'lable'") as told:
        Roles.of(label="lable").resolved(["label", "text"], where="a.csv")
    assert told.value.hint == "did you mean 'label'?"
    assert told.value.exit_code == 2


def test_an_unknown_role_is_told_with_the_nearest_name():
    with pytest.raises(DeclarationError, match="no role 'labels'") as told:
        Roles({"labels": ("y",)})
    assert told.value.hint == "did you mean 'label'?"


def test_asking_for_a_role_nobody_plays():
    with pytest.raises(SchemaMismatch, match="plays the role 'text'"):
        Roles.of(label="y").one("text")
    assert Roles.of(label="y").all("text") == ()
    assert "text" not in Roles.of(label="y")
