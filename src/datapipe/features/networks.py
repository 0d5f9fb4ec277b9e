# SPDX-License-Identifier: Apache-2.0
"""Small networks as descriptions: a list of layers that is JSON, built again anywhere.

A model file holds weights only; what the weights mean is this description, kept in the artifact's
facts. Nothing is ever unpickled to get a model back.
"""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from datapipe.core.digest import digest_code
from datapipe.errors import DataError, DeclarationError, TrustError
from datapipe.features.encoding import Encoded, Encoding

_TORCH = threading.RLock()  # torch's threads, generator and determinism belong to the process
Activation = Literal["relu", "tanh"]
ModelFunction = Callable[[tuple[int, ...], int], nn.Module]

MOST_BLOCKS = 4
PREDICT_ROWS = 1024
"""Rows predicted at a time: bounds the memory, changes nothing else."""


@contextmanager
def torch_threads(threads: int = 1) -> Iterator[None]:
    """Torch for one caller at a time, with this many threads; as before afterwards.

    Sums in another order differ in their last bit, so the count is part of a result.

    Args:
        threads: How many threads an operation may use, >= 1.

    Yields:
        Nothing.

    Example:
        >>> with torch_threads(1):
        ...     torch.get_num_threads()
        1
    """
    with _TORCH:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def convolutional(
    shape: Sequence[int],
    n_classes: int,
    *,
    channels: Sequence[int] = (16, 32, 64, 64),
    hidden: int = 64,
    activation: Activation = "relu",
) -> dict[str, Any]:
    """A small convolutional network: 3x3 convolutions with halvings, then two dense layers.

    There is no batch normalisation: it mixes rows, which breaks private and federated training.

    Args:
        shape: (channels, height, width) of a picture.
        n_classes: Number of classes, >= 2.
        channels: Output channels of the blocks; as many blocks are used as the size allows.
        hidden: Width of the dense layer, >= 1.
        activation: `relu`, or `tanh`, which bounds gradients and suits private training.

    Returns:
        The description.

    Example:
        >>> [layer["op"] for layer in convolutional((1, 8, 8), 10)["layers"]][:4]
        ['conv', 'relu', 'maxpool', 'conv']

    References:
        LeCun et al., 1998, Gradient-based learning applied to document recognition.
        Papernot et al., 2021, Tempered sigmoid activations for deep learning with differential
        privacy.
    """
    depth, height, width = shape
    layers: list[dict[str, Any]] = []
    blocks = max(1, min(MOST_BLOCKS, int(math.log2(max(2, min(height, width)))) - 1))
    for out in list(channels)[:blocks]:
        layers.append({"op": "conv", "in": depth, "out": out, "kernel": 3, "padding": 1})
        layers.append({"op": activation})
        depth = out
        if min(height, width) >= 2:
            layers.append({"op": "maxpool", "size": 2})
            height, width = height // 2, width // 2
    layers.append({"op": "flatten"})
    layers.extend(_dense([depth * height * width, hidden, n_classes], activation))
    return {"kind": "layers", "input": list(shape), "classes": n_classes, "layers": layers}


def perceptron(
    shape: Sequence[int],
    n_classes: int,
    *,
    hidden: Sequence[int] = (64,),
    activation: Activation = "relu",
) -> dict[str, Any]:
    """Dense layers; with no hidden one, multinomial logistic regression.

    Args:
        shape: Shape of one row; flattened first when it has more than one side.
        n_classes: Number of classes, >= 2.
        hidden: Widths of the hidden layers.
        activation: `relu` or `tanh`.

    Returns:
        The description.

    Example:
        >>> len(perceptron((4,), 2, hidden=())["layers"])
        1
    """
    layers: list[dict[str, Any]] = [{"op": "flatten"}] if len(shape) > 1 else []
    layers.extend(_dense([math.prod(shape), *hidden, n_classes], activation))
    return {"kind": "layers", "input": list(shape), "classes": n_classes, "layers": layers}


def _dense(widths: Sequence[int], activation: Activation) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = []
    for wide, out in pairwise(widths[:-1]):
        layers += [{"op": "linear", "in": wide, "out": out}, {"op": activation}]
    return [*layers, {"op": "linear", "in": widths[-2], "out": widths[-1]}]


def written_by_user(
    function: ModelFunction, shape: Sequence[int], n_classes: int
) -> dict[str, Any]:
    """The description of a network that a user's function makes.

    Args:
        function: Called as `function(shape, n_classes)`; it must be importable by name, so that
            the model can be built again in another process.
        shape: Shape of one row.
        n_classes: Number of classes, >= 2.

    Returns:
        The description; it names the function and the digest of its module.

    Raises:
        DeclarationError: The function is a lambda, is defined inside another one, or in a script.

    Example:
        >>> written_by_user(lambda shape, n: None, (4,), 2)
        Traceback (most recent call last):
        ...
        datapipe.errors.DeclarationError: model=<lambda> cannot be imported by name [DP-NET-001]
        <BLANKLINE>
        hint: define the function at the top of a module and import it from there
    """
    name = getattr(function, "__qualname__", type(function).__qualname__)
    module = getattr(function, "__module__", "")
    if "<" in name or "." in name or not module:
        raise DeclarationError(
            f"model={name} cannot be imported by name",
            code="DP-NET-001",
            hint="define the function at the top of a module and import it from there",
        )
    return {
        "kind": "function",
        "function": f"{module}:{name}",
        "code": digest_code(module),
        "input": list(shape),
        "classes": n_classes,
    }


def build(spec: Mapping[str, Any]) -> nn.Module:
    """The network of a description, freshly initialised from torch's global generator.

    Args:
        spec: What `convolutional`, `perceptron` or `written_by_user` gave.

    Returns:
        The module; rows in, logits of shape (rows, classes) out.

    Raises:
        DeclarationError: It names an unknown layer, or a function that makes no module.

    Example:
        >>> build(perceptron((4,), 3))(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """
    if spec["kind"] == "layers":
        return nn.Sequential(*(_layer(layer) for layer in spec["layers"]))
    module, _, name = str(spec["function"]).partition(":")
    made = getattr(importlib.import_module(module), name)(tuple(spec["input"]), spec["classes"])
    if not isinstance(made, nn.Module):
        raise DeclarationError(
            f"model={spec['function']} gave {type(made).__name__}, not a torch.nn.Module",
            code="DP-NET-001",
            hint="return a module that takes (rows, *shape) and gives (rows, n_classes)",
        )
    return made


def _layer(layer: Mapping[str, Any]) -> nn.Module:
    made: dict[str, Callable[[], nn.Module]] = {
        "conv": lambda: nn.Conv2d(
            layer["in"], layer["out"], layer["kernel"], padding=layer["padding"]
        ),
        "linear": lambda: nn.Linear(layer["in"], layer["out"]),
        "maxpool": lambda: nn.MaxPool2d(layer["size"]),
        "flatten": nn.Flatten,
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
    }
    if layer["op"] not in made:
        raise DeclarationError(
            f"the description names the layer {layer['op']!r}; known are {', '.join(made)}",
            code="DP-NET-001",
            hint="use the version of datapipe that trained the model",
        )
    return made[layer["op"]]()


def load_model(path: Path, facts: Mapping[str, Any]) -> tuple[nn.Module, Encoding]:
    """A trained model from its weights and the facts of its artifact.

    A model that a user's function makes runs that function; its module must have the digest that
    was recorded when it trained.

    Args:
        path: The safetensors file.
        facts: The artifact's facts; `architecture` and `encoding` are read.

    Returns:
        The module in evaluation mode on the CPU, and the encoding of its rows.

    Raises:
        DataError: The file is no safetensors file, or its tensors do not fit the description.
        TrustError: The module of the user's function changed since the model was trained.

    Example:
        >>> import tempfile
        >>> from safetensors.torch import save_file
        >>> spec, file = perceptron((1,), 2), Path(tempfile.mkdtemp()) / "m.safetensors"
        >>> save_file(build(spec).state_dict(), file)
        >>> encoding = Encoding("text", (1,), ("t",), {"buckets": 1}).to_json()
        >>> load_model(file, {"architecture": spec, "encoding": encoding})[1].kind
        'text'
    """
    spec = facts["architecture"]
    if spec["kind"] == "function":
        module = str(spec["function"]).partition(":")[0]
        importlib.import_module(module)
        if digest_code(module) != spec["code"]:
            raise TrustError(
                f"{module} changed since it made the model {path.name}",
                code="DP-NET-003",
                hint="check out the code that trained the model, or train again",
                path=str(path),
            )
    module_made = build(spec)
    try:
        module_made.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise DataError(
            f"{path.name} does not hold the weights of the described network: {error}",
            code="DP-NET-002",
            hint="give the file and the facts of one and the same artifact",
        ) from error
    return module_made.eval(), Encoding.from_json(facts["encoding"])


def logits(module: nn.Module, rows: Encoded, *, device: str = "cpu") -> NDArray[np.float32]:
    """What a network says of every row.

    Args:
        module: The network, on `device`.
        rows: Encoded rows.
        device: Where the network is.

    Returns:
        float32 of shape (n, classes).

    Example:
        >>> logits(build(perceptron((4,), 3)), Encoded((4,), np.zeros((2, 4), np.float32))).shape
        (2, 3)
    """
    training = module.training
    module.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), PREDICT_ROWS):
            index = np.arange(start, min(start + PREDICT_ROWS, len(rows)))
            batch = torch.from_numpy(rows.take(index)).to(device)
            parts.append(module(batch).float().cpu().numpy())
    module.train(training)
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def last_hidden(module: nn.Module, rows: Encoded) -> NDArray[np.float32]:
    """What arrives at the last layer of a network.

    Args:
        module: The network, on the CPU, in evaluation mode.
        rows: Encoded rows.

    Returns:
        float32, shape (n, h); the logits where the network is no sequence of layers.

    Example:
        >>> rows = Encoded((4,), np.zeros((2, 4), np.float32))
        >>> last_hidden(build(perceptron((4,), 3)), rows).shape
        (2, 64)
    """
    body = module[:-1] if isinstance(module, nn.Sequential) and len(module) > 1 else module
    parts = [np.zeros((0, 1), np.float32)]
    with torch.no_grad():
        for start in range(0, len(rows), PREDICT_ROWS):
            some = rows.take(np.arange(start, min(start + PREDICT_ROWS, len(rows))))
            parts.append(body(torch.from_numpy(some)).flatten(1).numpy())
    return np.concatenate(parts[1:] or parts)
