# SPDX-License-Identifier: Apache-2.0
"""Labels of rows through filter, join, explode and resample, held against brute force."""

from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.ancestry import joined, labels, made_from
from datapipe.core.dataset import Dataset
from datapipe.core.roles import ANCESTORS, ORDINAL_BITS, ROW_ID
from datapipe.core.source import Source
from datapipe.errors import SchemaMismatch

SOURCES = [
    Source("real", "a", number=1, licence="MIT", consent="granted", synthetic=False),
    Source("made", "b", number=2, licence="CC0-1.0", consent="granted", synthetic=True,
           generator="m"),
    Source("quiet", "c", number=3),
    Source("refused", "d", number=4, licence="MIT", consent="denied", synthetic=False),
]  # fmt: skip
STEPS = ("filter", "explode", "resample", "join", "left join", "self join", "shuffle")


class Rows:
    """The naive side: each row is a dictionary that carries the set of ids it was made from."""

    def __init__(self, rows: list[dict]) -> None:
        self.rows = rows

    def step(self, name: str, draw: random.Random, others: list[dict]) -> list[dict]:
        match name:
            case "filter":
                return [r for r in self.rows if r["k"] % 3]
            case "explode":
                return [dict(r) for r in self.rows for _ in range(r["k"] % 3 + 1)]
            case "resample":
                picked = draw.choices(range(len(self.rows)), k=len(self.rows)) if self.rows else []
                return [dict(self.rows[i]) for i in picked]
            case "shuffle":
                order = list(range(len(self.rows)))
                draw.shuffle(order)
                return [self.rows[i] for i in order]
        partners = self.rows if name == "self join" else others
        found = []
        for r in self.rows:
            mine = [o for o in partners if o["k"] == r["k"]]
            found += [{**r, "from": r["from"] | o["from"]} for o in mine]
            if not mine and name == "left join":
                found.append(r)
        return found


def fast(data: Dataset, name: str, draw: random.Random, others: Dataset) -> Dataset:
    """The same step as a stage would write it."""
    frame = data.scan(row_id=True)
    match name:
        case "filter":
            made = frame.filter(pl.col("k") % 3 != 0)
        case "explode":
            counts = pl.int_ranges(0, pl.col("k") % 3 + 1).alias("_part")
            made = frame.with_columns(counts).explode("_part").drop("_part")
        case "resample":
            held = frame.collect()
            picked = draw.choices(range(held.height), k=held.height) if held.height else []
            made = held[picked].lazy() if picked else held.lazy()
        case "shuffle":
            held = frame.collect()
            order = list(range(held.height))
            draw.shuffle(order)
            made = held[order].lazy() if order else held.lazy()
        case _:
            partner = data if name == "self join" else others
            made = joined(
                frame,
                partner.scan(row_id=True),
                on="k",
                how="left" if name == "left join" else "inner",
            ).select(pl.exclude("^.*_right$"))
    return Dataset(made, sources=data.sources)


def told(made_from: set[int]) -> dict:
    """The labels of one row, straight from the words of the promise."""
    numbers = sorted({i >> ORDINAL_BITS for i in made_from})
    facts = [s for n in numbers for s in SOURCES if s.number == n]
    consents = {s.consent for s in facts}
    flags = {s.synthetic for s in facts}
    return {
        "sources": numbers,
        "licences": sorted({s.licence for s in facts}),
        "consent": "denied" if "denied" in consents
        else "granted" if consents == {"granted"} else "",
        "synthetic": True if True in flags else None if None in flags else False,
        "generators": sorted({s.generator for s in facts if s.generator}),
    }  # fmt: skip


def world(seed: int, n: int) -> tuple[list[dict], Dataset]:
    draw = random.Random(seed)
    rows = []
    for i in range(n):
        row_id = draw.choice(SOURCES).number << ORDINAL_BITS | i
        rows.append({"id": row_id, "k": draw.randint(0, 6), "from": {row_id}})
    frame = pl.DataFrame(
        {
            ROW_ID: pl.Series([r["id"] for r in rows], dtype=pl.UInt64),
            "k": pl.Series([r["k"] for r in rows], dtype=pl.Int64),
        }
    )
    return rows, Dataset(frame.lazy(), sources=SOURCES)


@given(st.integers(0, 10_000), st.lists(st.sampled_from(STEPS), min_size=1, max_size=4))
def test_labels_propagate_exactly(seed, steps):
    naive, data = world(seed, 7)
    others_naive, others = world(seed + 1, 5)
    for number, name in enumerate(steps):
        naive = Rows(naive).step(name, random.Random(number), others_naive)
        data = fast(data, name, random.Random(number), others)
        if len(naive) > 300:
            break
    assert data.row_ids.to_list() == [r["id"] for r in naive]
    assert made_from(data)["ancestors"].to_list() == [sorted(r["from"]) for r in naive]
    found = labels(data).drop("row_id").to_dicts()
    assert found == [told(r["from"]) for r in naive]


def test_ancestors_are_hidden_and_cannot_be_lost():
    _, data = world(1, 6)
    made = fast(data, "self join", random.Random(0), data)
    assert made.names == ["k"]
    assert ANCESTORS in made.scan(row_id=True).collect_schema()
    with pytest.raises(SchemaMismatch, match=ANCESTORS):
        made.with_frame(made.scan(row_id=True).drop(ANCESTORS))


def test_a_row_of_no_known_source_is_declared_nothing():
    rows = pl.LazyFrame({ROW_ID: pl.Series([9 << ORDINAL_BITS], dtype=pl.UInt64)})
    assert labels(Dataset(rows)).drop("row_id").to_dicts() == [
        {"sources": [9], "licences": [""], "consent": "", "synthetic": None, "generators": []}
    ]
