# SPDX-License-Identifier: Apache-2.0
"""The summary of training content: every figure can be asked for again, nothing is invented."""

from __future__ import annotations

import pytest

from datapipe.errors import DeclarationError
from datapipe.integrations.training_summary import NOT_RECORDED, page, summary


@pytest.fixture(scope="module")
def told(exported, facts):
    return summary(exported, facts.run_id)


def test_every_answer_is_that_of_the_question_beside_it(exported, told):
    asked = 0
    for fields in told["sections"].values():
        for name, field in fields.items():
            if field["sql"]:
                again = exported.sql(field["sql"], **field["parameters"]).to_dicts()
                assert field["answer"] in (again, NOT_RECORDED), name
                asked += field["answer"] != NOT_RECORDED
            else:
                assert field["answer"] == NOT_RECORDED
    assert asked >= 8


def test_figures_are_those_of_the_rows_that_trained(told):
    sources = told["sections"]["sources"]
    assert told["sections"]["general"]["size"]["answer"] == [{"rows": 3}]
    assert sources["licensed"]["answer"] == [{"licence": "CC-BY-4.0", "rows": 3}]
    assert sources["crawled"]["answer"] == NOT_RECORDED


def test_the_page_shows_question_and_answer(told):
    text = page(told)
    assert text.count("```sql") >= 10
    assert "### Languages\n\nnot recorded" in text


def test_a_run_without_a_model_has_no_summary(exported):
    with pytest.raises(DeclarationError, match="no such model"):
        summary(exported, "none")
