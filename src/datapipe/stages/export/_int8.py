# SPDX-License-Identifier: Apache-2.0
"""Int8 weights as plain tensors, so that an exported program holds no pickled object.

torchao's own quantised tensor is a tensor subclass; `torch.export.save` pickles it and
`torch.export.load` unpickles it with `weights_only=False`. Here torchao computes the int8 values
and scales, and ordinary buffers hold them: the file needs neither pickle nor torchao.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

# torchao tells at its import which GPU kernels it could not load; none is used here
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)

from torchao.quantization.quant_primitives import (  # noqa: E402 - the lines above come first
    MappingType,
    choose_qparams_affine,
    quantize_affine,
)


class Int8Weight(nn.Module):
    """An int8 weight with one scale per output channel, and a layer's unchanged bias."""

    values: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        values, scale = int8_values(weight)
        self.register_buffer("values", values)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def weight(self) -> Tensor:
        """The weight as float32."""
        sides = [-1] + [1] * (self.values.dim() - 1)
        return self.values.to(torch.float32) * self.scale.view(sides)


class Int8Linear(Int8Weight):
    """A dense layer with an int8 weight."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.weight, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Rows of shape (..., in) to (..., out)."""
        return nn.functional.linear(x, self.weight(), self.bias)


class Int8Conv2d(Int8Weight):
    """A convolution with an int8 kernel."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(layer.weight, layer.bias)
        self.stride, self.dilation, self.groups = layer.stride, layer.dilation, layer.groups
        self.padding = layer.padding

    def forward(self, x: Tensor) -> Tensor:
        """Pictures of shape (n, in, height, width) to (n, out, height, width)."""
        return torch.conv2d(
            x,
            self.weight(),
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )


class Int8Embedding(Int8Weight):
    """A table of embeddings in int8, one scale per entry."""

    def __init__(self, layer: nn.Embedding) -> None:
        super().__init__(layer.weight, None)

    def forward(self, index: Tensor) -> Tensor:
        """Indices of shape (...) to vectors of shape (..., width)."""
        return self.values[index].to(torch.float32) * self.scale[index].unsqueeze(-1)


def int8_values(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 values of a weight, and a float32 scale per output channel."""
    flat = weight.detach().float().flatten(1)
    block = (1, flat.shape[1])
    scale, zero = choose_qparams_affine(
        flat, MappingType.SYMMETRIC, block, torch.int8, eps=1e-12, scale_dtype=torch.float32
    )
    values = quantize_affine(flat, block, scale, zero, torch.int8)
    return values.view(weight.shape), scale.flatten()


def int8_copy(module: nn.Module) -> nn.Module:
    """A copy of a network whose dense, convolutional and embedding weights are int8."""
    made = _int8_layer(module)
    if made is not None:
        return made.eval()
    copied = copy.deepcopy(module)
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            layer = _int8_layer(child)
            if layer is not None:
                setattr(parent, name, layer)
    return copied.eval()


def _int8_layer(layer: nn.Module) -> nn.Module | None:
    """The int8 form of a layer, or None where there is none; a subclass may compute otherwise."""
    if type(layer) is nn.Linear:
        return Int8Linear(layer)
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
        return Int8Conv2d(layer)
    if type(layer) is nn.Embedding and layer.max_norm is None:
        return Int8Embedding(layer)
    return None


def save_program(module: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Write a network as a `.pt2` program for any number of rows.

    Example inputs and stack traces are left out: the first would be a pickle in the file, the
    second would tell where on whose machine it was made.
    """
    rows = torch.zeros(2, *shape)
    program = torch.export.export(
        module.eval(), (rows,), dynamic_shapes=({0: torch.export.Dim("rows", min=1)},)
    )
    program.example_inputs = None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, path)
