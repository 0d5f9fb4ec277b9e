# SPDX-License-Identifier: Apache-2.0
"""Votes are counted right, ties and disagreement are told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages import MajorityVote

ROLES = Roles.of(id="q", annotator="who", label="answer")
ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 4), st.sampled_from("abc")),
    min_size=1,
    max_size=60,
    unique_by=lambda r: (r[0], r[1]),
)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_equals_counting(rows: list[tuple[int, int, str]], tmp_path_factory) -> None:  # type: ignore[no-untyped-def]  # fixture
    frame = pl.DataFrame(rows, schema=["q", "who", "answer"], orient="row")
    folder = tmp_path_factory.mktemp("v")
    made = MajorityVote().run(Dataset.of(frame, ROLES), Context(1, folder))
    table = pl.read_parquet(made.artifacts[0].path)
    for line in table.to_dicts():
        votes = Counter(a for q, _, a in rows if q == line["item"])
        top = max(votes.values())
        assert votes[line["label"]] == top
        assert abs(line["posterior"] - top / sum(votes.values())) < 1e-12
        assert line["answers"] == sum(votes.values())


def test_disagreement_is_suspect_and_names_the_rows(tmp_path: Path) -> None:
    rows = [(q, w, "abc"[(q + w) % 3] if w else "a") for q in range(40) for w in range(3)]
    frame = pl.DataFrame(rows, schema=["q", "who", "answer"], orient="row")
    found = MajorityVote().run(Dataset.of(frame, ROLES), Context(1, tmp_path)).findings[0]
    assert found.verdict == "suspect"
    assert found.flagged.height > 30


def test_agreement_is_clean(tmp_path: Path) -> None:
    rows = [(q, w, "ab"[q % 2]) for q in range(40) for w in range(3)]
    frame = pl.DataFrame(rows, schema=["q", "who", "answer"], orient="row")
    found = MajorityVote().run(Dataset.of(frame, ROLES), Context(1, tmp_path)).findings[0]
    assert found.verdict == "clean"
    assert found.flagged.height == 0
