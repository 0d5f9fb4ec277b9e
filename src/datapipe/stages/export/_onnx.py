# SPDX-License-Identifier: Apache-2.0
"""ONNX files: built layer by layer from a description, and quantised by ONNX Runtime.

Our own networks are lists of layers, so their graph is written directly, in milliseconds. A user's
network goes through torch's exporter, which takes some seconds.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, on import; the clean process inherits it

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

OPSET = 17
IR_VERSION = 9
INPUT, OUTPUT = "rows", "logits"
_PLAIN = {"relu": "Relu", "tanh": "Tanh", "flatten": "Flatten"}


def quantised(module: nn.Module, spec: Mapping[str, Any], path: Path, folder: Path) -> None:
    """Write a network as an ONNX file whose weights are int8, one scale per output channel.

    Dense layers and convolutions compute in integers; the scale of their inputs is found anew for
    every batch.
    """
    plain = folder / "float32.onnx"
    if spec["kind"] == "layers":
        onnx.save(graph_of(spec, module.state_dict()), plain)
    else:
        _by_exporter(module, tuple(spec["input"]), plain)
    with _quiet():
        quantize_dynamic(plain, path, weight_type=QuantType.QInt8, per_channel=True)


def graph_of(spec: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> onnx.ModelProto:
    """The graph of a list of layers with its weights; the number of rows is free."""
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    last = INPUT
    for number, layer in enumerate(spec["layers"]):
        out = OUTPUT if number + 1 == len(spec["layers"]) else f"after_{number}"
        held = _weights(number, layer, weights)
        tensors.extend(held)
        nodes.extend(_nodes(layer, last, out, [t.name for t in held]))
        last = out
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", *spec["input"]])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", spec["classes"]])],
        tensors,
    )
    model = helper.make_model(
        graph,
        producer_name="datapipe",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _weights(
    number: int, layer: Mapping[str, Any], weights: Mapping[str, torch.Tensor]
) -> list[onnx.TensorProto]:
    if layer["op"] not in ("linear", "conv"):
        return []
    weight, bias = (weights[f"{number}.{part}"].cpu().numpy() for part in ("weight", "bias"))
    if layer["op"] == "linear":
        weight = np.ascontiguousarray(weight.T)
    return [
        numpy_helper.from_array(weight, f"{number}.weight"),
        numpy_helper.from_array(bias, f"{number}.bias"),
    ]


def _nodes(
    layer: Mapping[str, Any], source: str, out: str, held: Sequence[str]
) -> list[onnx.NodeProto]:
    """One layer's nodes; a dense layer is a product and a sum, which the quantiser knows."""
    kind = layer["op"]
    if kind == "linear":
        return [
            helper.make_node("MatMul", [source, held[0]], [f"{out}.product"]),
            helper.make_node("Add", [f"{out}.product", held[1]], [out]),
        ]
    if kind == "conv":
        pads = [layer["padding"]] * 4
        return [helper.make_node("Conv", [source, *held], [out], pads=pads)]
    if kind == "maxpool":
        size = [layer["size"]] * 2
        return [helper.make_node("MaxPool", [source], [out], kernel_shape=size, strides=size)]
    return [helper.make_node(_PLAIN[kind], [source], [out])]


def _by_exporter(module: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    with _quiet():
        program = torch.onnx.export(
            module.eval().cpu(),
            (torch.zeros(2, *shape),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    exported = program.model_proto if program is not None else onnx.ModelProto()
    del exported.graph.value_info[:]  # the quantiser turns weights round and trips over old shapes
    for node in exported.graph.node:
        del node.metadata_props[:]  # stack traces name the machine that exported
    onnx.save(exported, path)


def session(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """An ONNX file as a function of rows, run in this process on the CPU."""
    opened = InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda rows: np.asarray(opened.run([OUTPUT], {INPUT: rows})[0], np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on standard output or in the log.

    The quantiser recommends a step that was done and the exporter narrates its progress; both
    would land in what a command prints.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
