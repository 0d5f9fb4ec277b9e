# SPDX-License-Identifier: Apache-2.0
"""`Artifact`: what a stage makes beside data, such as a model, an export or a receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from datapipe.core.estimate import Estimate

ArtifactKind = Literal["model", "export", "table", "picture", "receipt"]


@dataclass(frozen=True, eq=False)
class Artifact:
    """A file that a stage wrote, with the facts and figures that belong to it.

    Args:
        name: A short name, unique in its run, such as `plain` or `int8.onnx`.
        kind: `model`, `export`, `table`, `picture` or `receipt`.
        path: The file; the stage writes it under `context.scratch`, the executor moves it into
            the store and gives the path there.
        media_type: Its IANA media type, such as `application/vnd.safetensors`.
        facts: What describes it: architecture, classes, dtypes, sizes in bytes. JSON values only.
        measures: Its figures, such as `accuracy`, each an estimate.
        row_ids: The rows that trained it, uint64; None when no row did.
        digest: Filled in by the executor: `sha256:` of the bytes.
        parents: Names of the artifacts it was made from.

    Example:
        >>> Artifact("plain", "model", Path("plain.safetensors")).digest
        ''
    """

    name: str
    kind: ArtifactKind
    path: Path
    media_type: str = "application/octet-stream"
    facts: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, Estimate] = field(default_factory=dict)
    row_ids: pl.Series | None = field(default=None, repr=False)
    digest: str = ""
    parents: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The promised JSON form, without the row ids.

        Returns:
            A dictionary with name, kind, path, media_type, facts, measures, digest and parents.

        Example:
            >>> Artifact("plain", "model", Path("m")).to_json()["kind"]
            'model'
        """
        return {
            "name": self.name,
            "kind": self.kind,
            "path": str(self.path),
            "media_type": self.media_type,
            "facts": dict(self.facts),
            "measures": {k: m.to_json() for k, m in self.measures.items()},
            "digest": self.digest,
            "parents": list(self.parents),
        }


@dataclass(frozen=True)
class PrivacyEvent:
    """One use of a privacy budget, kept as the event so that later uses compose tightly.

    Args:
        mechanism: Such as `dp-sgd`.
        sigma: Noise multiplier, > 0.
        sample_rate: Poisson sampling rate, in (0, 1].
        steps: How many noisy steps were taken.
        epsilon: Epsilon spent by these steps alone at `delta`.
        delta: In (0, 1).
        clip: Bound of a row's gradient norm, > 0.
        unit: What is protected: `row`, `subject` or `client`.

    Example:
        >>> PrivacyEvent("dp-sgd", 1.0, 0.05, 100, 1.8, 1e-5, 1.0).unit
        'row'
    """

    mechanism: str
    sigma: float
    sample_rate: float
    steps: int
    epsilon: float
    delta: float
    clip: float
    unit: str = "row"
