# SPDX-License-Identifier: Apache-2.0
"""A program that opens an exported model in a process of its own and runs it on some rows.

    python -P _reopen.py pt2|onnx MODEL ROWS.npy ANSWERS.npy

It imports nothing of datapipe: what opens here opens at a user's. Rows are run twice, all at once
and the first one alone, to prove that the number of rows is free. A `.pt2` that holds a pickle is
refused before torch reads it.
"""

from __future__ import annotations

import json
import sys
import zipfile
from typing import Any

import numpy as np


def run(form: str, model: str, rows: Any) -> Any:
    """The answers to all rows, and below them the answer to the first row alone."""
    call = _program(model) if form == "pt2" else _session(model)
    return np.concatenate([call(rows), call(rows[:1])])


def _program(model: str) -> Any:
    import torch  # noqa: PLC0415 - an ONNX file is opened without torch

    pickled = pickled_entries(model)
    if pickled:
        raise SystemExit(f"the file holds pickled objects: {', '.join(pickled)}")
    torch.set_num_threads(1)
    program = torch.export.load(model).module()

    def call(rows: Any) -> Any:
        with torch.no_grad():
            return program(torch.from_numpy(rows)).numpy()

    return call


def pickled_entries(model: str) -> list[str]:
    """Names of the entries of a `.pt2` that torch would unpickle."""
    found: list[str] = []
    with zipfile.ZipFile(model) as archive:
        for entry in archive.infolist():
            if "/data/sample_inputs/" in entry.filename and entry.file_size:
                found.append(entry.filename)
            if entry.filename.endswith("_config.json"):
                held = json.loads(archive.read(entry))["config"]
                found += [name for name, meta in held.items() if meta.get("use_pickle")]
    return found


def _session(model: str) -> Any:
    import onnxruntime  # noqa: PLC0415 - a `.pt2` is opened without it

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda rows: session.run(None, {name: rows})[0]


if __name__ == "__main__":
    form, model, rows, out = sys.argv[1:]
    np.save(out, run(form, model, np.load(rows, allow_pickle=False)), allow_pickle=False)
