# SPDX-License-Identifier: Apache-2.0
"""What the three trainers share: parameters, a repeatable torch, and what they hand over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from datapipe.core.artifact import Artifact, PrivacyEvent
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.digest import digest_file, digest_json
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.parameters import PositiveInt, Range
from datapipe.core.stage import Stage, Yield
from datapipe.errors import DataError, DeclarationError
from datapipe.features.networks import (
    ModelFunction,
    build,
    convolutional,
    logits,
    perceptron,
    torch_threads,
    written_by_user,
)
from datapipe.stages.train._rows import Prepared, Rows

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Training(Stage):
    """The parameters of every trainer; see `TrainPlain` for what they mean."""

    needs: ClassVar[tuple[str, ...]] = ("label",)
    gives: ClassVar[tuple[str, ...]] = ("model",)
    extra: ClassVar[str] = "train"

    model: ModelFunction | None = None
    holdout: Annotated[float, Range(0, 1, "[)")] = 0.2
    test: str = ""
    split_seed: int = 0
    device: Device = "auto"
    threads: PositiveInt = 1
    named: str = ""

    @property
    def artifact_name(self) -> str:
        """The name of the model: the given one, else the method's."""
        return self.named or self.name.partition(".")[2]

    def check(self) -> list[str]:
        """Problems with the parameters that can be told without data."""
        wrong = super().check()
        if callable(self.model):
            try:
                written_by_user(self.model, (1,), 2)
            except DeclarationError as error:
                wrong.append(f"{self.name}: {error.message}; {error.hint}")
        return wrong

    def code_digest(self) -> str:
        """The digest of this module, the private ones beside it and the test file's bytes."""
        beside = sorted(Path(__file__).parent.glob("_*.py"))
        test = Path(self.test) if self.test else None
        return digest_json(
            [
                super().code_digest(),
                *(digest_file(path) for path in beside),
                digest_file(test) if test is not None and test.is_file() else "",
            ]
        )


def chosen_device(wanted: str) -> str:
    """`cuda` or `cpu`; asking for what is not there is an error, not a silent change."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise DeclarationError(
            "device='cuda' was asked for, and torch sees no CUDA device here",
            code="DP-TRAIN-011",
            hint="use device='auto' or device='cpu'",
        )
    return "cuda" if there and wanted != "cpu" else "cpu"


@contextmanager
def repeatable(seed: int, threads: int) -> Iterator[None]:
    """Torch with this seed, deterministic algorithms and thread count; all as before afterwards."""
    with torch_threads(threads), torch.random.fork_rng():
        before = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
        )
        torch.manual_seed(seed)
        # some CUDA kernels have no deterministic form: a warning, not a failure, names them
        torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.backends.cudnn.benchmark = before[2]


def architecture(
    model: ModelFunction | None, ready: Prepared, *, private: bool = False
) -> dict[str, Any]:
    """The user's network, or a small one that fits the kind of rows."""
    shape, n_classes = ready.encoding.shape, len(ready.classes)
    if model is not None:
        return written_by_user(model, shape, n_classes)
    if len(shape) == 3 and private:
        return convolutional(
            shape, n_classes, channels=(8, 16, 32, 32), hidden=32, activation="tanh"
        )
    if len(shape) == 3:
        return convolutional(shape, n_classes)
    if ready.encoding.kind == "text" and private:
        return perceptron(shape, n_classes, hidden=())
    return perceptron(
        shape,
        n_classes,
        hidden=(32,) if private else (64,),
        activation="tanh" if private else "relu",
    )


def fitting(spec: Mapping[str, Any], rows: Rows, device: str) -> nn.Module:
    """The network of a description on a device, tried on one row before any training."""
    module = build(spec)
    try:
        with torch.no_grad():
            shape = tuple(module(torch.from_numpy(rows.x.take(np.arange(1)))).shape)
    except (RuntimeError, IndexError, TypeError) as error:
        raise DeclarationError(
            f"the network does not take rows of shape {rows.x.shape}: {error}",
            code="DP-TRAIN-010",
            hint="use the shape that model(shape, n_classes) is given",
        ) from error
    if shape != (1, spec["classes"]):
        raise DeclarationError(
            f"the network gave {shape} for one row; (1, {spec['classes']}) was expected",
            code="DP-TRAIN-010",
            hint="return one logit per class",
        )
    return module.to(device)


def diverged(module: nn.Module) -> None:
    """Refuse a network whose weights are no longer numbers."""
    if not all(bool(torch.isfinite(p).all()) for p in module.parameters()):
        raise DataError(
            "training diverged: weights are no longer finite",
            code="DP-TRAIN-002",
            hint="lower learning_rate, or scale the features",
        )


@dataclass(frozen=True)
class Trained:
    """A network after training and what its trainer has to say of it."""

    module: nn.Module
    spec: Mapping[str, Any]
    device: str
    facts: Mapping[str, Any]
    privacy: tuple[PrivacyEvent, ...] = ()
    says: str = ""
    tables: Mapping[str, pl.DataFrame] | None = None


def handed_over(
    stage: Training, made: Trained, ready: Prepared, data: Dataset, context: Context
) -> Yield:
    """Write the weights and the held-out answers, and say how good the model is."""
    name = stage.artifact_name
    scratch = context.scratch
    path = scratch / f"{name}.safetensors"
    weights = {k: v.detach().cpu().contiguous() for k, v in made.module.state_dict().items()}
    save_file(dict(sorted(weights.items())), path)
    answers = _answers(made.module, ready, made.device)
    measures = _measures(answers, ready.classes)
    model = Artifact(
        name,
        "model",
        path,
        "application/vnd.safetensors",
        facts=_facts(stage, made, ready, data),
        measures=measures,
        row_ids=ready.train.row_ids,
    )
    tables = {"heldout": answers, **(made.tables or {})}
    written = [_table(f"{name}.{key}", frame, scratch, name) for key, frame in tables.items()]
    finding = _finding(stage, answers, ready, measures["accuracy"], made)
    return Yield(findings=(finding,), artifacts=(model, *written), privacy=made.privacy)


def _table(name: str, frame: pl.DataFrame, folder: Path, model: str) -> Artifact:
    path = folder / f"{name}.parquet"
    frame.write_parquet(path)
    facts = {"rows": frame.height, "columns": frame.columns}
    return Artifact(name, "table", path, "application/vnd.apache.parquet", facts, parents=(model,))


def _answers(module: nn.Module, ready: Prepared, device: str) -> pl.DataFrame:
    """A line per held-out row: what it is, what the model says, how surely."""
    held = ready.held_out
    scores = logits(module, held.x, device=device)
    names = np.array([str(c) for c in ready.classes])
    if not len(held):
        said, sure = np.zeros(0, np.int64), np.zeros(0)
    else:
        spread = np.exp(scores - scores.max(axis=1, keepdims=True))
        said = scores.argmax(axis=1)
        sure = (spread / spread.sum(axis=1, keepdims=True))[np.arange(len(held)), said]
    return pl.DataFrame(
        {
            "row_id": held.row_ids,
            "label": np.where(held.y < 0, "", names[held.y]),
            "predicted": names[said],
            "confidence": sure.astype(np.float64),
            "correct": said == held.y,
        }
    )


def _measures(answers: pl.DataFrame, classes: tuple[Any, ...]) -> dict[str, Estimate]:
    found = {"accuracy": Estimate.rate(int(answers["correct"].sum()), answers.height)}
    by_class = answers.group_by("label").agg(pl.col("correct").sum(), pl.len())
    counts = {str(label): (int(hits), int(n)) for label, hits, n in by_class.iter_rows()}
    for name in map(str, classes):
        found[f"accuracy.{name}"] = Estimate.rate(*counts.get(name, (0, 0)))
    return found


def _facts(stage: Training, made: Trained, ready: Prepared, data: Dataset) -> dict[str, Any]:
    parameters = list(made.module.parameters())
    return {
        "architecture": dict(made.spec),
        "encoding": ready.encoding.to_json(),
        "classes": list(ready.classes),
        "n_parameters": sum(p.numel() for p in parameters),
        "n_rows": len(ready.train),
        "n_held_out": len(ready.held_out),
        "evaluated_on": {"file": stage.test} if stage.test else {"holdout": stage.holdout},
        "split_seed": stage.split_seed,
        "device": made.device,
        "threads": stage.threads,
        "dataset_digest": data.digest,
        "torch": torch.__version__,
        **made.facts,
    }


def _finding(
    stage: Training, answers: pl.DataFrame, ready: Prepared, accuracy: Estimate, made: Trained
) -> Finding:
    """Better than always saying the commonest class, or not."""
    name = stage.artifact_name
    kind = f"train.{name}"
    details: dict[str, Any] = {"model": name, "rows": len(ready.train), **made.facts}
    if not answers.height:
        return Finding(
            kind,
            "not_evaluated",
            Estimate.unknown(method="no held-out rows"),
            f"{name} was trained on {len(ready.train)} rows and evaluated on none",
            details=details,
            remedy="set holdout above 0 or give a test file",
        )
    constant = _commonest_class_share(ready)
    better = accuracy.low > constant
    says = (
        f"{name} is right on {accuracy.value:.1%} of {answers.height} held-out rows;"
        f" always saying the commonest class is right on {constant:.1%}"
    )
    return Finding(
        kind,
        "clean" if better else "suspect",
        accuracy,
        " ".join(s for s in (says + ".", made.says) if s),
        severity="info" if better else "medium",
        details={**details, "commonest_class_share": constant},
        remedy="" if better else "train longer, on more rows, or with other features",
    )


def _commonest_class_share(ready: Prepared) -> float:
    commonest = int(np.bincount(ready.train.y, minlength=len(ready.classes)).argmax())
    return float(np.mean(ready.held_out.y == commonest))


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
    """Every row once, in a random order, `size` at a time."""
    order = torch.randperm(n, generator=generator).numpy()
    for start in range(0, n, size):
        yield order[start : start + size]
