# SPDX-License-Identifier: Apache-2.0
"""Equal rows: every repeat is found, nothing else is, and the first one stays."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding
from datapipe.core.roles import ORDINAL_BITS, ROW_ID, Roles
from datapipe.errors import SchemaMismatch
from datapipe.stages import find
from datapipe.stages.dedup.exact import ExactDuplicates

ROWS = st.lists(
    st.tuples(st.sampled_from([None, 0, 1, 2]), st.sampled_from([None, "", "x", "é"])), max_size=40
)


def look(data: Dataset, context: Context, columns: tuple[str, ...] = ()) -> Finding:
    return ExactDuplicates(columns).run(data, context).findings[0]


@given(ROWS)
def test_equals_a_dictionary_of_rows(context: Context, rows: list[tuple[object, ...]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.String}, orient="row")
    found = look(Dataset.of(frame), context)
    if not rows:
        assert found.verdict == "not_evaluated"
        return
    seen: dict[object, int] = {}
    kept = [seen.setdefault(row, i) for i, row in enumerate(rows)]
    flagged = [k != i for i, k in enumerate(kept)]
    assert found.rows is not None
    assert found.rows["flagged"].to_list() == flagged
    reasons = [f"duplicate of 0:{k}" if k != i else "" for i, k in enumerate(kept)]
    assert found.rows["reason"].to_list() == reasons
    assert found.verdict == ("suspect" if any(flagged) else "clean")
    assert found.measure.value == pytest.approx(np.mean(flagged))


def test_every_kind_of_column_is_compared(context: Context) -> None:
    frame = pl.DataFrame(
        {
            "f": [0.0, -0.0, float("nan"), float("nan"), None],
            "l": [[1, 2], [1, 2], [1], [1], None],
            "b": [b"a", b"a", b"", b"", None],
            "s": [{"k": 1}, {"k": 1}, {"k": None}, {"k": None}, None],
            "d": pl.Series([0, 0, 1, 1, None]).cast(pl.Date),
            "c": pl.Series(["u", "u", "v", "v", None]).cast(pl.Categorical),
        }
    )
    found = look(Dataset.of(frame), context)
    assert found.flagged["row_id"].to_list() == [1, 3]


def test_the_kept_row_is_named_by_source_and_ordinal(context: Context) -> None:
    ids = pl.Series([3 << ORDINAL_BITS | 9, 4 << ORDINAL_BITS], dtype=pl.UInt64)
    data = Dataset(pl.LazyFrame({ROW_ID: ids, "a": [1, 1]}))
    assert look(data, context).flagged["reason"].to_list() == ["duplicate of 3:9"]


def test_the_users_own_key_is_not_compared_unless_asked(context: Context) -> None:
    data = Dataset.of(pl.DataFrame({"key": [1, 2], "t": ["a", "a"]}), Roles.of(id="key"))
    assert look(data, context).details["rows_removed"] == 1
    assert look(data, context, ("key", "t")).verdict == "clean"
    assert look(data, context, ("t",)).details["pairs"] == [[0, 1]]


def test_a_hidden_sounding_column_name_does_no_harm(context: Context) -> None:
    data = Dataset.of(pl.DataFrame({"_at": [1, 1, 2], "first": [1, 1, 2], "_hash": [5, 5, 5]}))
    assert look(data, context).flagged["row_id"].to_list() == [1]


def test_a_row_drawn_more_than_once_is_one_row(context: Context) -> None:
    """Rows leave by their ids: copies of a draw took all that was drawn with them."""
    drawn = pl.DataFrame({"a": [5, 5, 7, 5, 8, 7], ROW_ID: [0, 0, 1, 2, 3, 1]})
    drawn = drawn.with_columns(pl.col(ROW_ID).cast(pl.UInt64))
    found = look(Dataset(drawn.lazy()), context)
    assert found.flagged["row_id"].to_list() == [2]
    other = drawn.with_columns(pl.Series("a", [5, 6, 6, 5, 8, 9]))  # one id, two contents
    assert look(Dataset(other.lazy()), context).flagged["row_id"].to_list() == [2]


def test_clusters_are_counted(context: Context) -> None:
    data = Dataset.of(pl.DataFrame({"a": [1, 2, 1, 1, 2, 3]}))
    details = look(data, context).details
    assert (details["clusters"], details["largest_cluster"], details["rows_removed"]) == (2, 3, 3)


def test_a_million_rows_with_planted_repeats(context: Context) -> None:
    rng = np.random.default_rng(1)
    n, planted = 1_000_000, 5_000
    values = rng.permutation(n * 4)[:n]
    copies = rng.choice(n, planted, replace=False)
    frame = pl.DataFrame({"x": np.append(values, values[copies])}).with_columns(
        t=pl.col("x").cast(pl.String)
    )
    found = look(Dataset.of(frame), context)
    assert found.flagged["row_id"].to_list() == list(range(n, n + planted))


def test_real_repeats(context: Context, real_data) -> None:
    data = Dataset.of(pl.read_parquet(real_data("poison/sms_spam_dev.parquet")))
    assert len(data) - look(data, context, ("text",)).details["rows_removed"] == 2585


def test_a_wrong_column_is_told(context: Context) -> None:
    with pytest.raises(SchemaMismatch, match="'tex'"):
        look(Dataset.of(pl.DataFrame({"text": ["a"]})), context, ("tex",))


def test_nothing_to_compare_is_not_clean(context: Context) -> None:
    only_key = Dataset.of(pl.DataFrame({"k": [1, 1]}), Roles.of(id="k"))
    assert look(only_key, context).verdict == "not_evaluated"


@pytest.mark.parametrize("key", ["dedup.exact", "dedup.near", "dedup.minhash", "synthetic.score"])
def test_rows_whose_label_is_not_what_is_wrong_are_not_relabelled(key):
    (told,) = find(key)(on_finding="relabel").check()
    assert "on_finding='relabel' is none of note, quarantine, weight, stop" in told
