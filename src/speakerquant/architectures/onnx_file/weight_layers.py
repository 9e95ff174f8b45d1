"""The nodes of an ONNX graph that hold weights, as layers of PyTorch, which masks reach."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from speakerquant.architectures.onnx_file.reading import Node
from speakerquant.errors import UserError

_CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {3: nn.Conv1d, 4: nn.Conv2d}


class BatchNormalization(_BatchNorm):
    """Normalises axis 1 of an input of any number of axes."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def weight_layer(node: Node, constants: Mapping[str, Tensor]) -> nn.Module | None:
    """The layer that computes a node from its first operand, with what is stored of it; None if it is none.

    Padding that differs at the two ends of an axis is not the layer's: see :func:`padding_before`.

    Raises:
        UserError: a convolution of a form that PyTorch does not have.
    """
    stored = [constants.get(name) for name in node.inputs[1:] if name]  # one without a name is left out
    if not stored or node.inputs[0] in constants or any(value is None for value in stored):
        return None
    values = [value for value in stored if value is not None]
    if node.operator == "Conv":
        return _convolution(node, values)
    if node.operator == "BatchNormalization":
        return _normalisation(node, values)
    if node.operator == "MatMul" and values[0].dim() == 2:
        return _linear(values[0].T, None)
    if node.operator == "Gemm" and not node.attributes.get("transA", 0):
        weight = values[0] if node.attributes.get("transB", 0) else values[0].T
        bias = node.attributes.get("beta", 1.0) * values[1].flatten() if len(values) > 1 else None
        if bias is None or len(bias) in (1, len(weight)):
            return _linear(node.attributes.get("alpha", 1.0) * weight, bias)
    return None


def with_pads(node: Node, constants: Mapping[str, Tensor]) -> Node:
    """The node with its padding in numbers, where a convolution's is said by ``auto_pad``.

    Raises:
        UserError: how much is padded depends on the length.
    """
    mode = node.attributes.get("auto_pad", "NOTSET")
    if node.operator != "Conv" or mode in ("NOTSET", "VALID") or node.inputs[1] not in constants:
        return node
    kernel = constants[node.inputs[1]].shape[2:]
    if any(stride > 1 for stride in node.attributes.get("strides", [])):
        raise UserError(f"{node}: padding by auto_pad with a stride; export it with pads")
    dilations = node.attributes.get("dilations", [1] * len(kernel))
    totals = [step * (taps - 1) for taps, step in zip(kernel, dilations, strict=True)]
    smaller, larger = [total // 2 for total in totals], [total - total // 2 for total in totals]
    pads = [*smaller, *larger] if mode == "SAME_UPPER" else [*larger, *smaller]
    return replace(node, attributes={**node.attributes, "pads": pads})


def padding_before(node: Node) -> Sequence[int]:
    """What must be added around a convolution's input before the layer runs, in ONNX's order, if anything."""
    pads = node.attributes.get("pads", [])
    half = len(pads) // 2
    if node.operator != "Conv" or pads[:half] == pads[half:]:
        return ()
    return [0, 0, *pads[:half], 0, 0, *pads[half:]]


def _convolution(node: Node, stored: Sequence[Tensor]) -> nn.Module:
    weight, *biases = stored
    if weight.dim() not in _CONVOLUTIONS:
        raise UserError(f"{node}: a convolution along {weight.dim() - 2} axes; one or two can be converted")
    axes = weight.dim() - 2
    pads = node.attributes.get("pads", [0] * 2 * axes)
    groups = node.attributes.get("group", 1)
    sizes: dict[str, Any] = {
        "kernel_size": tuple(weight.shape[2:]),
        "stride": tuple(node.attributes.get("strides", [1] * axes)),
        "padding": (0,) * axes if padding_before(node) else tuple(pads[:axes]),
        "dilation": tuple(node.attributes.get("dilations", [1] * axes)),
    }
    kind = _CONVOLUTIONS[weight.dim()]
    layer = kind(weight.shape[1] * groups, weight.shape[0], groups=groups, bias=bool(biases), **sizes)
    return _holding(layer, {"weight": weight, **({"bias": biases[0]} if biases else {})})


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _holding(
        layer, {"weight": weight, **({"bias": bias.expand(weight.shape[0])} if bias is not None else {})}
    )


def _normalisation(node: Node, stored: Sequence[Tensor]) -> nn.Module:
    weight, bias, mean, variance = stored
    layer = BatchNormalization(
        len(weight), node.attributes.get("epsilon", 1e-5), 1 - node.attributes.get("momentum", 0.9)
    )
    return _holding(layer, {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance})


def _holding(layer: nn.Module, values: Mapping[str, Tensor]) -> nn.Module:
    with torch.no_grad():
        for name, value in values.items():
            getattr(layer, name).copy_(value)
    return layer
