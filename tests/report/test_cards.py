# SPDX-License-Identifier: Apache-2.0
"""Facts of a card come from the class, drift is noticed, and prose is never touched."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

import datapipe
from datapipe.core.stage import Reader, RowStage, Stage
from datapipe.errors import DataError, DeclarationError
from datapipe.report import cards


@dataclass(frozen=True)
class Parent(Stage):
    """Shared parameters.

    Args:
        shared: What every child has, a | b.
    """

    shared: str = "x"


@dataclass(frozen=True)
class Child(Parent):
    """A stage.

    Args:
        share: How much, in [0, 1];
            in two lines.

    Example:
        >>> 1
        1
    """

    name: ClassVar[str] = "tests.child"
    needs: ClassVar[tuple[str, ...]] = ("label", "text|image")
    extra: ClassVar[str] = "train"
    raises_findings: ClassVar[tuple[str, ...]] = ("tests.child",)
    references: ClassVar[tuple[str, ...]] = ("Somebody, 1999, Something",)

    share: float = 0.5


def test_facts_name_everything_the_class_declares():
    assert cards.facts(Child).splitlines() == [
        "| | |",
        "|---|---|",
        "| stage | `Child`, version 1 |",
        "| shape | whole stage |",
        "| needs | `label`, `text` or `image` |",
        "| findings | `tests.child` |",
        "| extra | `pip install 'datapipe[train]'` |",
        "",
        "| parameter | accepts | default | meaning |",
        "|---|---|---|---|",
        "| `shared` | `str` | `'x'` | What every child has, a \\| b. |",
        "| `share` | `float` | `0.5` | How much, in [0, 1]; in two lines. |",
        "",
        "- Somebody, 1999, Something",
    ]


@pytest.mark.parametrize(("kind", "told"), [(Reader, "reader"), (RowStage, "row stage")])
def test_shapes(kind, told):
    assert f"| shape | {told} |" in cards.facts(kind)


def test_prose_is_left_as_it_is():
    card = f"# x\n\n{cards.BEGIN}\nold \\1 facts\n{cards.END}\n\n## Method\nMine \\g<0>.\n"
    once = cards.with_facts(card, Child)
    assert "old" not in once
    assert once.startswith("# x\n\n")
    assert once.endswith("\n\n## Method\nMine \\g<0>.\n")
    assert cards.with_facts(once, Child) == once


def test_a_card_without_a_place_for_facts_is_told():
    with pytest.raises(DataError, match="no place for facts"):
        cards.with_facts("# x\n", Child)


def test_drift_is_noticed_and_mended(root: Path, tmp_path: Path, monkeypatch, capsys):
    package = tmp_path / "datapipe"
    shutil.copytree(root / "stages", package / "cards")
    monkeypatch.setattr(datapipe, "__file__", str(package / "__init__.py"))
    path = package / "cards" / "dedup" / "exact.md"
    assert cards.main(["--write", "dedup.exact"]) == 0
    assert cards.main(["--check", "dedup.exact"]) == 0
    path.write_text(path.read_text().replace("`on_finding`", "`on_find`"))
    assert cards.main(["--check", "dedup.exact"]) == 1
    assert "run `make cards`" in capsys.readouterr().err
    assert cards.main(["--write", "dedup.exact"]) == 0
    assert "`on_finding`" in cards.card("dedup.exact")


def test_an_unknown_card_is_told_with_the_nearest():
    with pytest.raises(DeclarationError, match=r"no card 'dedup\.exactly'") as told:
        cards.card("dedup.exactly")
    assert "'dedup.exact'" in told.value.hint
