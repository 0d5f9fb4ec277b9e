# SPDX-License-Identifier: Apache-2.0
"""Quantised export: int8 files that were opened again in a clean process and compared."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.digest import digest_file, digest_json
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict
from datapipe.core.stage import Stage, Yield
from datapipe.errors import in_a_line
from datapipe.features.held_out import HeldOut, held_out_rows
from datapipe.features.networks import load_model, logits, torch_threads
from datapipe.measure.intervals import paired_difference
from datapipe.stages.export import _onnx
from datapipe.stages.export._clean_process import Answer, Compared, Floats, reopened
from datapipe.stages.export._contents import Contents, contents
from datapipe.stages.export._int8 import int8_copy, save_program

Format = Literal["pt2", "onnx"]
FORMATS: tuple[Format, ...] = ("pt2", "onnx")
MEDIA_TYPES = {"pt2": "application/zip", "onnx": "application/onnx"}
INT8_LEAST = 0.9
"""Least share of int8 among the weights for a file that calls itself int8."""


@dataclass(frozen=True)
class ExportQuantized(Stage):
    """Write a trained model with int8 weights, open the file elsewhere, and compare.

    A file that says int8 and holds float32, or that opens only in the process that wrote it, is
    the common failure of this step. So each file is read back: its weights are counted by type,
    another process without datapipe opens it and answers the held-out rows, and these answers must
    be those of the quantised network here.

    Method: `pt2`: weights rounded to int8 with one scale per output channel (torchao), kept as
        plain tensors in a torch.export program; no pickle is inside. `onnx`: ONNX Runtime's dynamic
        quantisation, int8 weights and integer arithmetic. Both take any number of rows.
    Assumes: The weights are mostly in dense, convolutional or embedding layers.
    Choose it when: The model has to be small (about a quarter of float32) or, with ONNX Runtime,
        fast on a CPU.
    Fails when: Weights sit in layers without an int8 form (recurrent ones): the finding fails.
        In `onnx` inputs are scaled per batch, so a row's answer depends slightly on the others. An
        attacker who knows the rounding can train a model that misbehaves only when quantised:
        compare answers, as this stage does, on rows you trust.
    Cost: About 1 s for each format and a clean process that imports torch or ONNX Runtime; a user's
        own network takes some seconds more in torch's ONNX exporter.

    Args:
        recipe: `int8`.
        formats: Which files: `pt2`, `onnx` or both.
        model: Name of the model; empty for the newest.

    Example:
        >>> ExportQuantized("int4").check()
        ["export.quantized: recipe='int4' must be int8"]

    References:
        Jacob et al., 2018, Quantization and training of neural networks for efficient
        integer-arithmetic-only inference.
    """

    name: ClassVar[str] = "export.quantized"
    uses: ClassVar[tuple[str, ...]] = ("model",)
    gives: ClassVar[tuple[str, ...]] = ("export",)
    raises_findings: ClassVar[tuple[str, ...]] = ("export.pt2", "export.onnx")
    extra: ClassVar[str] = "export"
    references: ClassVar[tuple[str, ...]] = (
        "Jacob et al., 2018, Quantization and training of neural networks for efficient inference.",
    )

    recipe: Literal["int8"] = "int8"
    formats: tuple[Format, ...] = FORMATS
    model: str = ""

    def check(self) -> list[str]:
        """Problems with the parameters that can be told without data.

        Returns:
            A sentence for each problem, empty when there is none.

        Example:
            >>> ExportQuantized(formats=()).check()
            ['export.quantized: no format is named; use some of pt2, onnx']
        """
        wrong = super().check()
        if self.formats == ():
            wrong.append(f"{self.name}: no format is named; use some of {', '.join(FORMATS)}")
        return wrong

    def code_digest(self) -> str:
        """The digest of this module and the private ones beside it.

        Returns:
            The digest in the house form.

        Example:
            >>> ExportQuantized().code_digest().startswith("sha256:")
            True
        """
        beside = sorted(Path(__file__).parent.glob("_*.py"))
        return digest_json([super().code_digest(), *(digest_file(path) for path in beside)])

    def run(self, data: Dataset, context: Context) -> Yield:
        """Quantise, write, open again and compare.

        Args:
            data: The rows that the model held out are among them.
            context: Its models are exported; its held-out tables are compared on.

        Returns:
            A file and a finding per format.

        Raises:
            DeclarationError: No step before trained such a model.
            DataError: The model's file does not fit its facts.
            TrustError: The code of the user's network changed.

        Example:
            >>> import pyarrow as pa
            >>> data = Dataset.of(pa.table({"a": [1]}))
            >>> ExportQuantized().run(data, Context(1, Path(".")))
            Traceback (most recent call last):
            ...
            datapipe.errors.DeclarationError: no step before this one trained a model [DP-DECL-020]
            <BLANKLINE>
            hint: put a training stage such as TrainPlain() before it
        """
        chosen = context.model(self.model)
        module, encoding = load_model(chosen.path, chosen.facts)
        rows = held_out_rows(chosen, encoding, data, context)
        with torch_threads():  # as the clean process has it
            made = [self._export(f, chosen, module, rows, context) for f in self.formats]
        return Yield(
            findings=tuple(finding for finding, _ in made),
            artifacts=tuple(artifact for _, artifact in made if artifact is not None),
        )

    def _export(
        self, form: Format, model: Artifact, module: nn.Module, rows: HeldOut, context: Context
    ) -> tuple[Finding, Artifact | None]:
        name = f"{model.name}.{self.recipe}.{form}"
        path = context.scratch / name
        context.say(f"{name}: writing, opening again and comparing")
        with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
            try:
                here = _written(form, module, model, path, Path(folder))
            except Exception as error:  # noqa: BLE001 - exporters raise whatever they meet
                return _unwritten(form, name, error), None
            tried = rows.tried(context)
            compared = reopened(form, path, tried, here, Path(folder))
        held = contents(path)
        measures = _measures(module, here, rows)
        details = {
            "model": model.name,
            "recipe": self.recipe,
            "format": form,
            "size_bytes": held.size_bytes,
            "float32_bytes": 4 * int(model.facts["n_parameters"]),
            "bytes_by_dtype": held.bytes_by_dtype,
            "int8_share": held.int8_share,
            "compared_rows": len(tried),
            "largest_difference": compared.difference,
            "input_shape": ["rows", *rows.x.shape],
            "classes": model.facts["classes"],
        }
        finding = _finding(name, held, compared, measures["accuracy_change"], details)
        return finding, Artifact(
            name,
            "export",
            path,
            MEDIA_TYPES[form],
            facts={**details, "encoding": model.facts["encoding"]},
            measures=measures,
            row_ids=model.row_ids,
            parents=(model.name,),
        )


def _written(form: Format, module: nn.Module, model: Artifact, path: Path, folder: Path) -> Answer:
    """Write the file; give the quantised network of this process as a function of rows."""
    spec = model.facts["architecture"]
    if form == "onnx":
        _onnx.quantised(module, spec, path, folder)
        return _onnx.session(path)
    rounded = int8_copy(module)
    save_program(rounded, tuple(spec["input"]), path)

    def answer(rows: Floats) -> Floats:
        with torch.no_grad():
            return np.asarray(rounded(torch.from_numpy(rows)).numpy())

    return answer


def _measures(module: nn.Module, here: Answer, rows: HeldOut) -> dict[str, Estimate]:
    """Accuracy of the file, and how it changed by rounding, on the same rows."""
    if not len(rows):
        return {"accuracy_change": Estimate.unknown(-1.0, 1.0, method="no held-out rows")}
    after = rows.right(np.concatenate([here(batch) for batch in rows.batches()]))
    before = rows.right(logits(module, rows.x))
    return {
        "accuracy_change": paired_difference(before, after),
        "accuracy": Estimate.rate(int(after.sum()), len(rows)),
    }


def _finding(
    name: str,
    held: Contents,
    compared: Compared,
    change: Estimate,
    details: Mapping[str, Any],
) -> Finding:
    """Fail when the file is not what it says; suspect when rounding cost accuracy for sure."""
    problem = compared.problem
    if not problem and held.int8_share < INT8_LEAST:
        problem = f"only {held.int8_share:.0%} of its weights are int8"
    said = f"{name} has {held.size_bytes} bytes, {held.int8_share:.0%} of its weights are int8"
    verdict: Verdict = "clean"
    if problem:
        verdict, said = "fail", f"{name}: {problem}"
    elif math.isnan(change.value):
        verdict, said = "not_evaluated", f"{said}; it opens elsewhere, no rows tell its accuracy"
    elif change.high < 0:
        verdict, said = "suspect", f"{said}; rounding changed its accuracy by {change.value:+.1%}"
    else:
        said = f"{said}; it opens elsewhere with equal answers, accuracy {change.value:+.1%}"
    severity: dict[Verdict, Severity] = {"fail": "high", "suspect": "medium"}
    remedies: dict[Verdict, str] = {
        "fail": "do not ship this file; use the other format, or layers that have an int8 form",
        "suspect": "ship float32, or train with more rows",
        "not_evaluated": "train with holdout above 0 in the same pipeline",
    }
    return Finding(
        f"export.{details['format']}",
        verdict,
        change,
        said + ".",
        severity=severity.get(verdict, "info"),
        details=details,
        remedy=remedies.get(verdict, ""),
    )


def _unwritten(form: Format, name: str, error: Exception) -> Finding:
    return Finding(
        f"export.{form}",
        "fail",
        Estimate.unknown(-1.0, 1.0, method="no file was written"),
        f"{name} cannot be written: {type(error).__name__}: {in_a_line(error)}",
        severity="high",
        details={"format": form, "error": type(error).__name__},
        remedy="use layers that the exporter knows, or the other format",
    )
