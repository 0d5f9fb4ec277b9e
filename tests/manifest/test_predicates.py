# SPDX-License-Identifier: Apache-2.0
"""Predicates: types, JSON and published schemas say the same."""

from __future__ import annotations

import json
import re
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest import facts
from datapipe.manifest.checks import Reason
from datapipe.manifest.predicates import (
    PREDICATES,
    DatasetPredicate,
    ErasurePredicate,
    EvaluationPredicate,
    RunPredicate,
    TrainingPredicate,
    predicate_uri,
    read_predicate,
)
from datapipe.manifest.records import Range, hints_of
from datapipe.manifest.schemas import field_table, schemas, write_schemas
from datapipe.manifest.statement import Statement, Subject

ZEROS = "0" * 64
SUBJECT = Subject("a", {"sha256": ZEROS})


def values(hint):  # noqa: PLR0911  # one line for each kind of type
    """A strategy for a field, from its type alone."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return bounded(args)
    if hint is Any:
        return st.integers(0, 9) | st.text(max_size=3) | st.lists(st.booleans(), max_size=2)
    if is_dataclass(hint):
        return records(hint)
    if type(None) in args:
        return st.none() | values(next(a for a in args if a is not type(None)))
    if origin is tuple:
        return st.lists(values(args[0]), max_size=2).map(tuple)
    if origin is not None and "Mapping" in str(origin):
        return st.dictionaries(st.text(max_size=4), values(args[1]), max_size=2)
    if origin is not None:
        return st.sampled_from(args)
    plain = {str: st.text(max_size=5), int: st.integers(-9, 9), bool: st.booleans()}
    return plain.get(hint, st.floats(-1e6, 1e6))


def bounded(args):
    if isinstance(args[1], Range):
        high = 1000 if args[1].high is None else args[1].high
        return st.integers(int(args[1].low), int(high))
    return {
        facts.Sha256.__metadata__[0].regex: st.just("ab" * 32),
        facts.Hex.__metadata__[0].regex: st.just("abcd"),
        facts.Moment.__metadata__[0].regex: st.just("2026-01-31T12:00:00Z"),
    }[args[1].regex]


def records(cls):
    fields = {name: values(hint) for name, hint in hints_of(cls).items()}
    if cls is TrainingPredicate:
        fields["method"] = st.sampled_from(["plain", "federated"])
    if cls is EvaluationPredicate:
        fields["registered"] = st.none()
    if cls is ErasurePredicate:
        fields["completed_at"] = st.none()
    return st.builds(cls, **fields)


@pytest.mark.parametrize("name", PREDICATES)
def test_what_is_written_is_read_and_fits_the_schema(name):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    cls = PREDICATES[name]
    validator = jsonschema.Draft202012Validator(schemas()[name])
    jsonschema.Draft202012Validator.check_schema(schemas()[name])

    @given(records(cls))
    def law(predicate):
        said = predicate.about(SUBJECT)
        read = Statement.from_bytes(said.to_bytes())
        assert read_predicate(read).to_json() == predicate.to_json()
        validator.validate(json.loads(read.to_bytes())["predicate"])

    law()


MISFITS = [
    ("dataset", {"name": 1}),
    ("dataset", {}),
    ("dataset", {"name": "a", "files": -1}),
    ("dataset", {"name": "a", "files": True}),
    ("dataset", {"name": "a", "files": 1.5}),
    ("dataset", {"name": "a", "tree": "abc"}),
    ("dataset", {"name": "a", "tree": "A" * 64}),
    ("dataset", {"name": "a", "declaredSyntheticShare": 1.1}),
    ("dataset", {"name": "a", "recordedAt": "2026-01-31 12:00:00"}),
    ("dataset", {"name": "a", "recordedAt": "2026-01-31T12:00:00+01:00"}),
    ("dataset", {"name": "a", "terms": {"licences": "MIT"}}),
    ("dataset", {"name": "a", "terms": {"uses": {"ai_training": "yes"}}}),
    ("dataset", {"name": "a", "materials": [{"name": "b"}]}),
    ("dataset", {"name": "a", "materials": [{"name": "b", "digest": {"sha256": "x"}}]}),
    ("dataset", {"name": "a", "surprise": 1}),
    ("dataset", []),
    ("run", {"runId": "r", "pipeline": "p", "seed": 7, "verdict": "fine"}),
    ("run", {"run_id": "r", "pipeline": "p", "seed": 7, "verdict": "clean"}),
    ("evaluation", {"of": "a", "figures": {"accuracy": 0.9}}),
    ("erasure", {"requestId": "e", "commitment": "0" * 63, "requestedAt": "2026-01-31T12:00:00Z"}),
]


@pytest.mark.parametrize(("name", "form"), MISFITS)
def test_misfits_are_refused_by_type_and_schema_alike(name, form):
    with pytest.raises(TrustError) as caught:
        PREDICATES[name].from_json(form)
    assert caught.value.code in {Reason.BAD_FORM, Reason.UNKNOWN_FIELD}
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    assert list(jsonschema.Draft202012Validator(schemas()[name]).iter_errors(form))


def test_a_bare_figure_has_no_place():
    """Figures are measures: value, interval, n and method."""
    measure = facts.Measure.of(Estimate.rate(18, 180))
    said = EvaluationPredicate("a", {"recall": measure})
    assert said.to_json()["figures"]["recall"]["low"] < 0.1
    unknown = facts.Measure.of(Estimate.unknown(method="no reference"))
    assert "value" not in EvaluationPredicate("a", {"x": unknown}).to_json()["figures"]["x"]


def test_private_training_states_its_budget():
    code = facts.Code("train.private", "1", ZEROS)
    with pytest.raises(TrustError):
        TrainingPredicate("r", code, 7, "dp-sgd")
    spend = facts.PrivacySpend(3.0, 1e-5, "prv")
    assert TrainingPredicate("r", code, 7, "dp-sgd", privacy=spend).privacy == spend


def test_limits_are_registered_before_the_evaluation():
    def evaluate(index, size):
        limits = facts.PreRegistration({"recall": 0.9}, ZEROS, index)
        return EvaluationPredicate("a", registered=limits, log=facts.LogPoint("l", size, ZEROS))

    assert evaluate(3, 4).registered.log_index == 3
    with pytest.raises(TrustError):
        evaluate(4, 4)


def test_an_erasure_is_not_completed_while_something_is_pending():
    model = facts.Reached(facts.Material("m", {"sha256": ZEROS}), 1, "pending")
    at = "2026-01-31T12:00:00Z"
    assert ErasurePredicate("e", ZEROS, at, reached=(model,)).completed_at is None
    with pytest.raises(TrustError):
        ErasurePredicate("e", ZEROS, at, at, reached=(model,))


def test_absent_facts_are_left_out():
    assert RunPredicate("r", "p", 7, "not_evaluated").to_json() == {
        "runId": "r",
        "pipeline": "p",
        "seed": 7,
        "verdict": "not_evaluated",
        "steps": [],
        "materials": [],
        "outputs": [],
        "findings": [],
    }


def test_names_and_uris():
    assert predicate_uri("dataset") == DatasetPredicate.uri
    assert predicate_uri("https://example.org/v1") == "https://example.org/v1"
    with pytest.raises(DeclarationError, match="did you mean 'dataset'"):
        predicate_uri("datset")
    with pytest.raises(TrustError) as caught:
        read_predicate(Statement((SUBJECT,), "https://example.org/v1", {}))
    assert caught.value.code == Reason.WRONG_PREDICATE


def test_the_published_schemas_are_those_of_the_types(root):
    folder = root / "manifests" / "schemas"
    for name, schema in schemas().items():
        published = json.loads((folder / f"{name}.v1.json").read_text(encoding="utf-8"))
        again = f"python -m datapipe.manifest.schemas {folder.relative_to(root)}"
        assert published == schema, f"{name}: run {again}"


@pytest.mark.parametrize("name", PREDICATES)
def test_every_field_is_described(name):
    def walk(schema):
        for key, inner in schema.get("properties", {}).items():
            assert inner["description"], key
            walk(inner)
            walk(inner.get("items", {}))

    walk(schemas()[name])


SECTIONS = ["Purpose", "Use cases", "Prerequisites", "Model", "Schema", "Parsing rules", "Fields"]


@pytest.mark.parametrize("name", PREDICATES)
def test_each_page_follows_the_template_and_the_type(root, name):
    page = (root / "manifests" / "predicates" / f"{name}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == [*SECTIONS, "Example"]
    assert PREDICATES[name].uri in page
    fields = page.split("## Fields")[1].split("## Example")[0]
    assert fields.strip() == field_table(name).strip()
    example = re.search(r"```json\n(.*?)```", page.split("## Example")[1], re.DOTALL)[1]
    said = Statement.from_bytes(example.encode())
    assert isinstance(read_predicate(said), PREDICATES[name])


def test_the_module_writes_the_schemas(tmp_path):
    written = write_schemas(tmp_path)
    assert sorted(path.name for path in written) == sorted(f"{n}.v1.json" for n in PREDICATES)
