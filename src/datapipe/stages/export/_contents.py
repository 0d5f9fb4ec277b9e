# SPDX-License-Identifier: Apache-2.0
"""What an exported file really holds: its weights by type, read from the file itself."""

from __future__ import annotations

import json
import math
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

_TORCH_TYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
    13: "bfloat16",
}
"""Numbers of types in a `.pt2`, from the schema of torch.export."""


@dataclass(frozen=True)
class Contents:
    """The tensors of a file.

    `bytes_by_dtype` counts the bytes of every tensor; `int8_share` is the share of int8 among the
    numbers of weights, which are the tensors with two or more sides.
    """

    size_bytes: int
    bytes_by_dtype: dict[str, int]
    int8_share: float


_Tensor = tuple[str, tuple[int, ...], int]


def contents(path: Path) -> Contents:
    """Count what a `.pt2` or `.onnx` file holds."""
    tensors = list(_of_onnx(path) if path.suffix == ".onnx" else _of_program(path))
    by_type: dict[str, int] = defaultdict(int)
    numbers: dict[str, int] = defaultdict(int)
    for kind, sides, size in tensors:
        by_type[kind] += size
        if len(sides) >= 2:
            numbers[kind] += math.prod(sides)
    weights = sum(numbers.values())
    share = (numbers["int8"] + numbers["uint8"]) / weights if weights else 0.0
    return Contents(path.stat().st_size, dict(sorted(by_type.items())), share)


def _of_onnx(path: Path) -> Iterable[_Tensor]:
    for tensor in onnx.load(path).graph.initializer:
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        sides = tuple(tensor.dims)
        yield kind.name, sides, math.prod(sides) * kind.itemsize


def _of_program(path: Path) -> Iterable[_Tensor]:
    """The tensors of a `.pt2` by its own lists of weights and constants."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            if not entry.endswith("_config.json"):
                continue
            folder = entry.rpartition("/")[0]
            for held in json.loads(archive.read(entry))["config"].values():
                meta = held["tensor_meta"]
                if meta is None:
                    continue
                kind = _TORCH_TYPES.get(meta["dtype"], f"type {meta['dtype']}")
                sides = tuple(side["as_int"] for side in meta["sizes"])
                yield kind, sides, archive.getinfo(f"{folder}/{held['path_name']}").file_size
