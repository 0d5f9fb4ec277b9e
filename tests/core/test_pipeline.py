# SPDX-License-Identifier: Apache-2.0
"""A plan finds every mistake before a byte is read, and says all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pytest

from datapipe.core.gate import Gate, at_most
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import Roles
from datapipe.core.stage import OnFinding, Reader, RowStage, Stage
from datapipe.errors import DeclarationError, MissingRole

TABLE = pa.table({"t": ["x"], "y": [1]})


@dataclass(frozen=True)
class Read(Reader):
    """Reads nothing."""

    name: ClassVar[str] = "tests.read"
    label: str = ""
    text: str = ""

    def roles(self) -> Roles:
        return Roles.of(label=self.label, text=self.text)


@dataclass(frozen=True)
class Detect(Stage):
    """Looks at labels."""

    name: ClassVar[str] = "tests.detect"
    needs: ClassVar[tuple[str, ...]] = ("label", "text|image")
    share: float = 0.5
    on_finding: OnFinding = "note"

    def check(self) -> list[str]:
        bad = [] if 0 <= self.share <= 1 else [f"tests.detect: share={self.share} is no share"]
        return super().check() + bad


class Train(Stage):
    """Makes a model."""

    name: ClassVar[str] = "tests.train"
    needs: ClassVar[tuple[str, ...]] = ("label",)
    gives: ClassVar[tuple[str, ...]] = ("model",)


class Export(Stage):
    """Needs a model."""

    name: ClassVar[str] = "tests.export"
    uses: ClassVar[tuple[str, ...]] = ("model",)


class Rewrite(Stage):
    """Changes labels."""

    name: ClassVar[str] = "tests.rewrite"
    changes: ClassVar[tuple[str, ...]] = ("label",)


class Row(RowStage):
    """Does nothing to a row."""

    name: ClassVar[str] = "tests.row"


READ = Read(label="y", text="t")


def problems(*stages, data=None, roles=None) -> tuple[str, ...]:
    with pytest.raises(DeclarationError) as told:
        Pipeline("p", stages).plan(data, roles=roles)
    assert told.value.exit_code == 2
    assert all(problem in told.value.message for problem in told.value.problems)
    return told.value.problems


def test_a_sound_plan_lists_its_steps():
    gate = Gate({"tests.*": at_most(0.1)})
    plan = Pipeline("p", [READ, [Detect(), Detect(0.2)], gate, Train(), Export()]).plan()
    assert [s.shape for s in plan.steps] == ["read", *["whole"] * 5]
    assert [len(group) for group in plan.groups()] == [1, 2, 1, 1, 1]
    assert [s.position for s in plan.steps] == list(range(6))
    assert plan.roles == Roles.of(label="y", text="t")
    lines = str(plan).splitlines()
    assert lines[0] == "pipeline p: 6 steps"
    assert [line[2:7] for line in lines[1:]] == [
        "  0  ",
        "  1 |",
        "    |",
        "  2  ",
        "  3  ",
        "  4  ",
    ]


def test_every_problem_is_told_at_once():
    told = problems(Read(text="t"), Detect, Detect(share=7.0, on_finding="explode"), Export())
    assert [p.split(":")[0] for p in told] == [
        "Detect is a class or function, not a stage",
        "tests.detect",
        "tests.detect",
        "tests.export needs a model, which no step before it makes",
        "tests.detect needs the role 'label', which no reader declares",
    ]


def test_missing_roles_alone_have_an_error_of_their_own():
    with pytest.raises(MissingRole) as told:
        Pipeline("p", [Read(), Detect()]).plan()
    assert told.value.code == "DP-DECL-002"
    assert len(told.value.problems) == 2
    assert "'text|image'" in told.value.message


def test_either_of_two_roles_will_do():
    Pipeline("p", [Detect()]).plan(TABLE, roles=Roles.of(label="y", text="t"))
    assert len(problems(Detect(), data=TABLE, roles=Roles.of(label="y"))) == 1


def test_it_must_start_somewhere():
    assert problems() == ("it has no stages",)
    assert problems(Detect()) == ("it starts with no reader and no data was given",)


def test_readers_stand_at_the_start_only():
    assert "readers belong at the start" in problems(READ, Read(label="y"))[0]
    assert "readers belong at the start" in problems(READ, data=TABLE)[0]
    assert "mixes readers" in problems([READ, Detect()])[0]
    assert len(Pipeline("p", [[READ, Read(label="z")]]).plan().groups()) == 1


def test_what_may_not_run_side_by_side():
    assert "twice" in problems(READ, [Detect(), Detect()])[0]
    assert "row stages cannot be parallel" in problems(READ, [Row(), Detect()])[0]
    assert "put them in order" in problems(READ, [Rewrite(), Detect()])[0]
    assert "put them in order" in problems(READ, [Detect(on_finding="relabel"), Train()])[0]
    Pipeline("p", [READ, Rewrite(), Detect()]).plan()


def test_a_branch_does_not_see_what_its_sibling_makes():
    assert "which no step before it makes" in problems(READ, [Train(), Export()])[0]


@pytest.mark.parametrize("stage", [Detect, len, "tests.detect", None, 3])
def test_what_is_no_stage(stage):
    assert "not a stage" in problems(READ, stage)[0]


def test_nothing_is_written_when_the_plan_does_not_hold(tmp_path):
    with pytest.raises(DeclarationError):
        Pipeline("p", [Detect()]).run(TABLE, seed=1, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("seed", ["7", 7.0, True, None, 2**63, -(2**63) - 1])
def test_a_seed_is_a_whole_number_of_64_bits(seed, tmp_path):
    with pytest.raises(DeclarationError, match=r"^seed=.* is no whole number of 64 bits"):
        Pipeline("p", [Gate({"a.*": at_most(1)})]).run(
            pa.table({"a": [1]}), seed=seed, store=tmp_path / "s"
        )
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("store", ["", "s3://bucket/store", 3, None, b"s"])
def test_a_store_is_a_folder_of_this_machine(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeclarationError, match="is no folder of this machine"):
        Pipeline("p", [Gate({"a.*": at_most(1)})]).run(pa.table({"a": [1]}), seed=1, store=store)
    assert list(tmp_path.iterdir()) == []


def test_stages_are_a_list():
    with pytest.raises(DeclarationError, match="not a list of stages"):
        Pipeline("p", Gate({"a.*": at_most(1)}))  # type: ignore[arg-type]  # the mistake itself


@pytest.mark.parametrize("stages", [None, {Detect()}, {"a": Detect()}, "tests.detect", 3])
def test_stages_in_no_order_are_refused(stages):
    with pytest.raises(DeclarationError, match="not a list of stages"):
        Pipeline("p", stages)


@pytest.mark.parametrize("name", ["", " ", None, 3, b"p"])
def test_a_pipeline_has_a_name(name):
    with pytest.raises(DeclarationError, match="was given the name"):
        Pipeline(name, [READ])


def test_a_long_list_of_parameters_ends_in_a_sign():
    plan = Pipeline("p", [Read(label="y" * 200)]).plan()
    assert str(plan).splitlines()[1].endswith("yyy…")
