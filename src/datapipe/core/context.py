# SPDX-License-Identifier: Apache-2.0
"""`Context`: all that a stage may know beside its data and its parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datapipe.core.artifact import Artifact
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding
from datapipe.errors import DeclarationError

if TYPE_CHECKING:
    import numpy as np


def _silent(_: str) -> None:
    """Progress nobody listens to."""


@dataclass(frozen=True)
class Context:
    """What the executor hands to a stage: a seed, a scratch folder and what came before.

    Stages stay pure functions of data, parameters and this: no store, no clock, no network.

    Args:
        seed: This step's own seed in [0, 2**63), derived from the run's seed and the step.
        scratch: A folder that belongs to this step; artifacts are written here.
        device: `cpu` or `cuda`.
        findings: The findings of the steps before, oldest first.
        artifacts: The artifacts of the steps before, by name.
        reference: A trusted data set to compare with, or None.
        privacy_spent: Epsilon that the store's ledger has already charged to this data.
        say: Called with one line of progress.

    Example:
        >>> Context(seed=7, scratch=Path(".")).rng().integers(10) == Context(
        ...     seed=7, scratch=Path(".")
        ... ).rng().integers(10)
        np.True_
    """

    seed: int
    scratch: Path
    device: str = "cpu"
    findings: Sequence[Finding] = ()
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    reference: Dataset | None = None
    privacy_spent: float = 0.0
    say: Callable[[str], None] = _silent

    def rng(self, salt: str = "") -> np.random.Generator:
        """A numpy generator that depends on the seed and a salt only.

        Args:
            salt: Names the use, so that two uses in one stage are independent.

        Returns:
            A fresh generator.

        Example:
            >>> c = Context(seed=1, scratch=Path("."))
            >>> bool(c.rng("a").random() == c.rng("b").random())
            False
        """
        import numpy as np  # noqa: PLC0415 - keeps `import datapipe.core` light

        return np.random.default_rng(derived_seed(self.seed, salt))

    def models(self) -> list[Artifact]:
        """The models trained by the steps before, oldest first.

        Returns:
            Artifacts of kind `model`.

        Example:
            >>> Context(seed=1, scratch=Path(".")).models()
            []
        """
        return [a for a in self.artifacts.values() if a.kind == "model"]

    def model(self, name: str = "") -> Artifact:
        """One model of the steps before.

        Args:
            name: Its name; empty for the newest.

        Returns:
            The model's artifact.

        Raises:
            DeclarationError: There is no such model.

        Example:
            >>> Context(seed=1, scratch=Path(".")).model()
            Traceback (most recent call last):
            ...
            datapipe.errors.DeclarationError: no step before this one trained a model [DP-DECL-020]
            <BLANKLINE>
            hint: put a training stage such as TrainPlain() before it
        """
        models = [m for m in self.models() if not name or m.name == name]
        if not models:
            known = ", ".join(m.name for m in self.models())
            wanted = f" called {name!r} (trained: {known})" if name and known else ""
            raise DeclarationError(
                f"no step before this one trained a model{wanted}",
                code="DP-DECL-020",
                hint="put a training stage such as TrainPlain() before it",
            )
        return models[-1]


def derived_seed(seed: int, salt: str) -> int:
    """A seed that depends on another and on a name, the same in every process.

    Args:
        seed: Any integer.
        salt: Any text.

    Returns:
        An integer in [0, 2**63).

    Example:
        >>> derived_seed(7, "labels") == derived_seed(7, "labels") != derived_seed(8, "labels")
        True
    """
    raw = hashlib.sha256(f"{seed}/{salt}".encode()).digest()
    return int.from_bytes(raw[:8], "big") >> 1
