# SPDX-License-Identifier: Apache-2.0
"""Source numbers and finished steps are found whoever recorded them, indexed or not."""

from __future__ import annotations

from datapipe.lineage.store import Lineage


def step(key: str, step_id: str, run: str = "r1", **more: object) -> tuple[str, dict]:
    return "steps", {
        "step_id": step_id,
        "run_id": run,
        "key": key,
        "result": {"of": step_id},
        **more,
    }


def test_numbers_belong_to_content_and_name(lineage: Lineage):
    other = Lineage(lineage.store)
    assert lineage.source_number("sha256:a", "x", 1) == 1
    assert other.source_number("sha256:b", "x", 1) == 2
    assert lineage.source_number("sha256:a", "y", 1) == 3
    assert other.source_number("sha256:a", "x", 1) == 1
    lineage.index()
    assert Lineage(lineage.store).source_number("sha256:a", "y", 1) == 3
    assert Lineage(lineage.store).source_number("sha256:c", "y", 1) == 4
    assert lineage.sql("select source_no from source_numbers order by seq")[
        "source_no"
    ].to_list() == [
        1,
        2,
        3,
        4,
    ]


def test_the_newest_step_that_ran_is_found(lineage: Lineage):
    other = Lineage(lineage.store)
    assert lineage.find_step("k") is None
    other.append([step("k", "a")])
    assert lineage.find_step("k")["step_id"] == "a"
    lineage.append([step("k", "b", "r2", reused_from="a"), step("", "u"), step("k2", "c", "r2")])
    for asked in (lineage, other, Lineage(lineage.store)):
        assert asked.find_step("k")["result"] == {"of": "a"}
    lineage.index()
    indexed = Lineage(lineage.store)
    assert indexed.find_step("k")["step_id"] == "a"
    assert indexed.find_step("k2")["result"] == {"of": "c"}
    other.append([step("k", "d", "r3")])
    assert indexed.find_step("k")["step_id"] == "d"
    assert indexed.find_step("nothing") is None


def test_a_step_is_the_same_from_the_index_and_from_the_journal(lineage: Lineage):
    lineage.append([step("k", "a", params={"b": [1, None]}, rows_in=3, seconds=0.5)])
    fresh = Lineage(lineage.store).find_step("k")
    lineage.index()
    assert Lineage(lineage.store).find_step("k") == fresh
    assert fresh["params"] == {"b": [1, None]}
    assert fresh["seq"] == 1


def test_a_missing_or_broken_index_costs_time_only(lineage: Lineage):
    lineage.append([step("k", "a")])
    lineage.source_number("sha256:a", "x", 1)
    lineage.index()
    (lineage.store / "lineage.duckdb").write_bytes(b"junk")
    fresh = Lineage(lineage.store)
    assert fresh.find_step("k")["step_id"] == "a"
    assert fresh.source_number("sha256:a", "x", 1) == 1
