# SPDX-License-Identifier: Apache-2.0
"""`Expect` agrees with plain polars, and nothing it did not look at is called clean."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe import Dataset, Gate, Pipeline, Roles, at_most
from datapipe.core.context import Context
from datapipe.errors import DataError, DeclarationError, SchemaMismatch

pytest.importorskip("great_expectations")

from datapipe.stages.validate.expect import Expect

BETWEEN = "expect_column_values_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"


def rule(kind: str, severity: str = "critical", **kwargs: object) -> dict[str, object]:
    return {"type": kind, "kwargs": kwargs, "severity": severity}


def found(data: pl.DataFrame, *rules: dict[str, object], roles: Roles | None = None):
    made = Expect(rules).run(Dataset.of(data, roles), Context(0, Path()))
    return made.findings


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(-20, 150)), min_size=1, max_size=30).filter(
        lambda values: any(v is not None for v in values)
    )
)
def test_it_equals_polars_on_rules_about_rows(ages):
    frame = pl.DataFrame({"age": pl.Series(ages, dtype=pl.Int64), "at": range(len(ages))})
    between, not_null, unique, in_set = found(
        frame,
        rule(BETWEEN, column="age", min_value=0, max_value=120),
        rule(NOT_NULL, column="age"),
        rule("expect_column_values_to_be_unique", column="age"),
        rule("expect_column_values_to_be_in_set", column="age", value_set=list(range(50))),
    )
    age = pl.col("age")
    plain = {
        between.kind: age.is_not_null() & ~age.is_between(0, 120),
        not_null.kind: age.is_null(),
        unique.kind: age.is_not_null() & age.is_duplicated(),
        in_set.kind: age.is_not_null() & ~age.is_between(0, 49),
    }
    for finding in (between, not_null, unique, in_set):
        broken = frame.filter(plain[finding.kind])["at"].to_list()
        assert finding.flagged["row_id"].to_list() == broken
        assert finding.verdict == ("fail" if broken else "clean")
        looked = len(ages) if finding is not_null else frame["age"].count()
        assert (finding.measure.n, finding.measure.value) == (looked, len(broken) / looked)
        assert finding.measure.low <= finding.measure.value <= finding.measure.high
        assert finding.rows is not None
        assert finding.rows.height == len(ages)


NUMBERS = st.one_of(st.none(), st.integers(-3, 6), st.sampled_from([2**53 + 1, -(2**60)]))
FLOATS = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, 2.0, float("nan"), 1e300, -7.25]))
WORDS = st.one_of(st.none(), st.sampled_from(["", "a", "b", "ab", "é", "日本", "A"]))
ROWS = st.lists(st.tuples(NUMBERS, FLOATS, WORDS, st.sampled_from([None, True])), min_size=1)


@settings(max_examples=12, deadline=None)
@given(ROWS, st.sampled_from([None, 0.4]), st.booleans())
def test_the_polars_pass_answers_as_great_expectations_does(rows, mostly, strict):
    types = {"i": pl.Int64, "f": pl.Float64, "s": pl.String, "b": pl.Boolean}
    frame = pl.DataFrame(rows, schema=types, orient="row")
    bounds = {"min_value": 0, "max_value": 2, "strict_min": strict, "strict_max": strict}
    most = {} if mostly is None else {"mostly": mostly}
    rules = [
        rule(kind, column=column, **(arguments | most))
        for column, sets in (("i", [[0, 1, 2**52]]), ("f", [[0, 1.5, -7.25]]), ("s", [["a", "é"]]))
        for kind, arguments in (
            (NOT_NULL, {}),
            ("expect_column_values_to_be_null", {}),
            ("expect_column_values_to_be_unique", {}),
            ("expect_column_values_to_be_in_set", {"value_set": sets[0]}),
            ("expect_column_values_to_not_be_in_set", {"value_set": sets[0]}),
        )
    ]
    rules += [rule(BETWEEN, column=c, **(bounds | most)) for c in "if"]
    lengths = "expect_column_value_lengths_to_"
    rules += [
        rule(f"{lengths}be_between", column="s", min_value=1, max_value=1, **most),
        rule(f"{lengths}equal", column="s", value=2, **most),
        rule(NOT_NULL, column="b", **most),
        rule("expect_table_row_count_to_be_between", min_value=2, max_value=5),
        rule("expect_table_row_count_to_equal", value=3),
    ]
    rules += [
        rule(f"expect_column_{what}_to_be_between", column=c, **bounds)
        for what in ("mean", "min", "max")
        for c in "if"
    ]
    data, nowhere = Dataset.of(frame), Context(0, Path())
    fast = Expect(rules).run(data, nowhere).findings
    slow = Expect(rules, engine="gx").run(data, nowhere).findings
    for ours, theirs in zip(fast, slow, strict=True):
        mine, yours = ours.to_json(), theirs.to_json()
        seen = [form["details"].pop("observed", None) for form in (mine, yours)]
        assert mine == yours
        assert seen[0] == seen[1] or seen[0] == pytest.approx(seen[1], rel=1e-12)
        assert (ours.rows is None) == (theirs.rows is None)
        if ours.rows is not None:
            assert ours.rows.equals(theirs.rows)


def test_rules_about_columns_and_the_table_say_whether_they_hold():
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0], "y": ["a", "b", "c"]})
    findings = found(
        frame,
        rule("expect_column_mean_to_be_between", column="x", min_value=5, max_value=6),
        rule("expect_table_row_count_to_be_between", min_value=3, max_value=3),
        rule("expect_table_columns_to_match_set", column_set=["x", "y"]),
        rule("expect_column_to_exist", column="z"),
        rule("expect_column_max_to_be_between", column="x", max_value=2),
    )
    assert [f.verdict for f in findings] == ["fail", "clean", "clean", "fail", "fail"]
    assert [f.measure.value for f in findings] == [1, 0, 0, 1, 1]
    assert findings[0].details["observed"] == 2.0
    assert "observed" not in findings[4].details  # the largest value is somebody's value


def test_findings_come_in_the_order_of_the_suite_each_with_its_own_kind():
    rules = [rule(BETWEEN, column="a", min_value=i) for i in (0, 2)]
    rules.append(rule(NOT_NULL, column="a"))
    kinds = [f.kind for f in found(pl.DataFrame({"a": [1, 2]}), *rules)]
    assert kinds == [f"validate.{BETWEEN}.a", f"validate.{BETWEEN}.a.2", f"validate.{NOT_NULL}.a"]


def test_severity_and_mostly_decide_the_verdict():
    frame = pl.DataFrame({"a": [1, 2, 300]})
    warned, told, mostly = found(
        frame,
        rule(BETWEEN, "warning", column="a", max_value=100),
        rule(BETWEEN, "info", column="a", max_value=100),
        rule(BETWEEN, column="a", max_value=100, mostly=0.5),
    )
    assert (warned.verdict, warned.severity) == ("suspect", "medium")
    assert (told.verdict, told.severity) == ("suspect", "low")
    assert mostly.verdict == "clean"
    assert mostly.flagged.is_empty()  # a clean finding flags nothing
    assert mostly.rows is not None
    assert mostly.rows["score"].to_list() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (pl.DataFrame({"a": []}, schema={"a": pl.Int64}), "no rows"),
        (pl.DataFrame({"a": [None, None]}, schema={"a": pl.Int64}), "null"),
        (pl.DataFrame({"a": [float("nan")] * 3}), "null"),
    ],
)
def test_what_great_expectations_passes_unseen_is_not_evaluated(frame, why):
    findings = found(
        frame,
        rule(BETWEEN, column="a", min_value=0, max_value=1),
        rule("expect_column_values_to_be_unique", column="a"),
        rule("expect_column_unique_value_count_to_be_between", column="a", max_value=9),
        rule("expect_column_distinct_values_to_be_in_set", column="a", value_set=[1]),
    )
    assert [f.verdict for f in findings] == ["not_evaluated"] * 4
    assert all(why in f.says for f in findings)
    assert all(f.measure.to_json()["value"] is None for f in findings)


def test_a_condition_that_selects_no_row_is_not_evaluated():
    when = {"row_condition": 'col("s")=="z"', "condition_parser": "great_expectations"}
    frame = pl.DataFrame({"a": [1, 2], "s": ["x", "y"]})
    (finding,) = found(frame, rule(BETWEEN, column="a", min_value=0, **when))
    assert finding.verdict == "not_evaluated"


def test_an_absent_column_stops_the_run_and_names_the_closest():
    with pytest.raises(SchemaMismatch, match="no column 'aeg'") as error:
        found(pl.DataFrame({"age": [1]}), rule(NOT_NULL, column="aeg"))
    assert "'age'" in error.value.hint


def test_a_failure_inside_a_rule_is_an_error_and_tells_no_value():
    with pytest.raises(DataError, match="secret is String") as error:
        found(pl.DataFrame({"secret": ["Ada", "Bob"]}), rule(BETWEEN, column="secret", min_value=1))
    assert "Ada" not in str(error.value)


@pytest.mark.parametrize(
    ("suite", "told"),
    [
        ([], "no expectations"),
        ([rule("expect_column_values_to_be_betwen", column="a")], f"did you mean '{BETWEEN}'"),
        ([rule(BETWEEN, column="a", min_value=5, max_value=1)], "min_value=5 is above max_value=1"),
        ([rule(BETWEEN, colum="a", min_value=5)], "field required"),
        (
            [
                rule(
                    BETWEEN, column="a", min_value=5, row_condition="a>1", condition_parser="pandas"
                )
            ],
            "would run code",
        ),
        ([{"kwargs": {}}], "needs a 'type'"),
        ("no/such/suite.json", "No such file"),
        ({"name": "s"}, "no list of expectations"),
    ],
)
def test_a_wrong_suite_is_refused_before_any_data(suite, told):
    problems = Expect(suite).check()
    assert len(problems) == 1
    assert told in problems[0]
    with pytest.raises(DeclarationError, match="cannot run"):
        Pipeline("p", [Expect(suite)]).plan(pl.DataFrame({"a": [1]}))


def test_missing_pixels_are_a_column_by_role_and_by_name():
    nan = float("nan")
    frame = pl.DataFrame({"px": [[0.0, 1.0], [nan, None], None, [2.0, nan]], "y": [0, 1, 0, 1]})
    limit = rule(BETWEEN, column="image.missing", max_value=0)
    (finding,) = found(frame, limit, roles=Roles.of(image="px", label="y"))
    assert finding.flagged["row_id"].to_list() == [1, 2, 3]
    (array,) = found(
        frame.with_columns(pl.col("px").fill_null([nan, nan]).list.to_array(2)),
        rule(BETWEEN, column="px.missing", max_value=1),
    )
    assert array.flagged["row_id"].to_list() == [1, 2]
    wide = pl.DataFrame({"p0": [1.0, nan], "p1": [None, 0.0], "y": [0, 1]})
    (columns,) = found(wide, limit, roles=Roles.of(image="p*", label="y"))
    assert columns.flagged["row_id"].to_list() == [0, 1]


def test_a_suite_file_counts_by_content_and_quarantines_with_the_rule_as_reason(tmp_path):
    path = tmp_path / "suite.json"
    form = {"name": "s", "expectations": [rule(BETWEEN, column="age", max_value=120)], "meta": {}}
    path.write_text(json.dumps(form))
    stage = Expect(str(path), on_finding="quarantine")
    before = stage.params()
    assert Expect(**before).params() == before
    form["expectations"][0]["kwargs"]["max_value"] = 99
    path.write_text(json.dumps(form))
    assert stage.params() != before
    made = stage.run(Dataset.of(pl.DataFrame({"age": [30, 65512]})), Context(0, Path()))
    assert made.findings[0].flagged["reason"].to_list() == [f"{BETWEEN}(age, max_value=99)"]


def test_a_gate_sees_every_rule():
    data = Dataset.of(pl.DataFrame({"a": [1] * 400 + [999], "b": [1] * 401}))
    findings = Expect(
        [rule(BETWEEN, column="a", max_value=9), rule(BETWEEN, column="b", max_value=9)]
    ).run(data, Context(0, Path()))
    context = Context(0, Path(), findings=findings.findings)
    broken, _, looked = Gate({"validate.*": at_most(0.01)}).judge(context)
    assert (looked, [f.columns for f in broken]) == (2, [("a",)])


def test_the_one_impossible_age_of_the_thyroid_data_is_found():
    folder = os.environ.get("DATAPIPE_TEST_DATA")
    roots = [Path(folder)] if folder else []
    roots.append(Path(__file__).resolve().parents[4] / "shared" / "data")
    file = next((r / "poison" / "thyroid_dev.parquet" for r in roots if r.is_dir()), None)
    if file is None or not file.exists():
        pytest.skip("the development data is not here (DATAPIPE_TEST_DATA)")
    frame = pl.read_parquet(file)
    (age,) = found(frame, rule(BETWEEN, column="age", min_value=0, max_value=120))
    odd = frame.with_row_index("at").filter(pl.col("age") > 120)
    assert odd["age"].to_list() == [65512]
    assert age.flagged["row_id"].to_list() == odd["at"].to_list()


def test_nothing_is_written_outside_and_nothing_is_said(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found(pl.DataFrame({"a": [1]}), rule(NOT_NULL, column="a"))
    assert Expect([rule("expect_nothing", column="a")]).check()
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert list(tmp_path.iterdir()) == []
