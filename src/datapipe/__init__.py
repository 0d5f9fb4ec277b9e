# SPDX-License-Identifier: Apache-2.0
"""Arrow-based stage pipelines that answer for every row, from raw data to a signed model.

    from datapipe import Gate, Pipeline, at_most
    from datapipe.stages import ReadParquet, MinHash, ConfidentLearning

    run = Pipeline("reviews", [
        ReadParquet("reviews/*.parquet", text="body", label="stars"),
        MinHash(threshold=0.8),
        ConfidentLearning(folds=5),
        Gate({"labels.noise": at_most(0.08)}),
    ]).run(seed=7)
    run.sql("from dropped_rows")

Eight nouns: `Estimate`, `Dataset`, `Finding`, `Stage`, `Gate`, `Pipeline`, `Manifest`, `Lineage`.
Nothing heavy is loaded until one of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from datapipe.core.dataset import Dataset
    from datapipe.core.estimate import Estimate
    from datapipe.core.finding import Finding
    from datapipe.core.function import stage
    from datapipe.core.gate import Gate, at_least, at_most, not_failed
    from datapipe.core.pipeline import Pipeline
    from datapipe.core.roles import Roles
    from datapipe.core.stage import RowStage, Stage, Yield
    from datapipe.lineage.store import Lineage
    from datapipe.manifest.manifest import Manifest

_HOMES = {
    "Dataset": "datapipe.core.dataset",
    "Estimate": "datapipe.core.estimate",
    "Finding": "datapipe.core.finding",
    "Gate": "datapipe.core.gate",
    "at_least": "datapipe.core.gate",
    "at_most": "datapipe.core.gate",
    "not_failed": "datapipe.core.gate",
    "Pipeline": "datapipe.core.pipeline",
    "Roles": "datapipe.core.roles",
    "RowStage": "datapipe.core.stage",
    "Stage": "datapipe.core.stage",
    "Yield": "datapipe.core.stage",
    "stage": "datapipe.core.function",
    "Lineage": "datapipe.lineage.store",
    "Manifest": "datapipe.manifest.manifest",
}

__all__ = [
    "Dataset",
    "Estimate",
    "Finding",
    "Gate",
    "Lineage",
    "Manifest",
    "Pipeline",
    "Roles",
    "RowStage",
    "Stage",
    "Yield",
    "at_least",
    "at_most",
    "not_failed",
    "stage",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'datapipe' has no attribute {name!r}")
    from datapipe._lazy import upward  # noqa: PLC0415 - keeps the bare import at one module

    return upward(_HOMES[name], name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
