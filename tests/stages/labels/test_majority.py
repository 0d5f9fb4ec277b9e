# SPDX-License-Identifier: Apache-2.0
"""The vote is counted, ties are marked, and repeated answers have one voice."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.labels.majority import MajorityVote

ROLES = Roles.of(id="item", annotator="who", label="said")


def _vote(rows, tmp_path):
    frame = pl.DataFrame(rows, schema=["item", "who", "said"], orient="row")
    made = MajorityVote().run(Dataset.of(frame, ROLES), Context(0, tmp_path))
    return made, [pl.read_parquet(a.path) for a in made.artifacts]


def test_most_voices_win_and_ties_are_marked(tmp_path):
    rows = [(1, "a", "x"), (1, "b", "x"), (1, "c", "y"), (2, "a", "y"), (2, "b", "x")]
    _, (labels, _) = _vote(rows, tmp_path)
    assert labels["label"].to_list() == ["x", "x"]
    assert labels["tied"].to_list() == [False, True]
    assert np.allclose(labels["posterior"], [2 / 3, 1 / 2])
    assert labels["n"].to_list() == [3, 2]


def test_one_annotator_has_one_voice_however_often_he_answers(tmp_path):
    rows = [(1, "a", "x")] * 5 + [(1, "b", "y"), (1, "c", "y"), (2, "a", "x"), (2, "b", "x")]
    _, (labels, _) = _vote(rows, tmp_path)
    assert labels["label"].to_list() == ["y", "x"]


def test_a_line_for_every_answer(tmp_path):
    rows = [(1, "a", "x"), (1, "b", "y"), (1, "c", None), (2, "a", "x"), (2, "b", "x")]
    made, _ = _vote(rows, tmp_path)
    assert made.findings[0].rows.height == 4
    assert made.findings[1].verdict == "not_evaluated"
    assert made.artifacts[0].facts["rows"] == 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 2)),
        min_size=2,
        max_size=40,
        unique_by=lambda row: row[:2],
    )
)
def test_the_label_has_the_most_votes(tmp_path_factory, rows):
    made, tables = _vote(rows, tmp_path_factory.mktemp("vote"))
    if made.findings[0].verdict == "not_evaluated":
        return
    for item, label in tables[0].select("item", "label").iter_rows():
        votes = np.bincount([said for i, _, said in rows if i == item], minlength=3)
        assert votes[label] == votes.max()
