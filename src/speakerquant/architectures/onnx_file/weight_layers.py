"""The nodes of an ONNX graph that hold weights, as layers of PyTorch, which masks reach."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from speakerquant.architectures.onnx_file.operators import around, window_pads, window_sizes
from speakerquant.architectures.onnx_file.reading import Node
from speakerquant.errors import UserError

_CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {3: nn.Conv1d, 4: nn.Conv2d}


class BatchNormalization(_BatchNorm):
    """Normalises axis 1 of an input of any number of axes."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def weight_layer(node: Node, constants: Mapping[str, Tensor]) -> nn.Module | None:
    """The layer that computes a node from its first operand, with what is stored of it; None if it is none.

    Padding that differs at the two ends of an axis, or with the length, is not the layer's: see
    :func:`padding_before`.

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
    """The node with its kernel's shape, and with its padding in numbers where no length changes it."""
    attributes = dict(node.attributes)
    if node.operator == "Conv" and node.inputs[1] in constants:
        attributes["kernel_shape"] = list(constants[node.inputs[1]].shape[2:])
    if "kernel_shape" not in attributes:
        return node
    pads, others = (window_pads(attributes, [size] * len(attributes["kernel_shape"])) for size in (1, 2))
    if pads == others:
        attributes |= {"pads": pads, "auto_pad": "NOTSET"}
    return replace(node, attributes=attributes)


def padding_before(node: Node, values: Tensor) -> Sequence[Any]:
    """What must be added around a convolution's input before the layer runs, in ONNX's order, if anything."""
    if node.operator != "Conv" or _own_padding(node) is not None:
        return ()
    return around(window_pads(node.attributes, window_sizes(values)))


def _own_padding(node: Node) -> list[int] | None:
    """What a convolution's layer adds itself, at both ends of each axis; None where that will not do."""
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    pads = node.attributes["pads"]
    half = len(pads) // 2
    return pads[:half] if pads[:half] == pads[half:] else None


def _convolution(node: Node, stored: Sequence[Tensor]) -> nn.Module:
    weight, *biases = stored
    if weight.dim() not in _CONVOLUTIONS:
        raise UserError(f"{node}: a convolution along {weight.dim() - 2} axes; one or two can be converted")
    axes = weight.dim() - 2
    groups = node.attributes.get("group", 1)
    sizes: dict[str, Any] = {
        "kernel_size": tuple(weight.shape[2:]),
        "stride": tuple(node.attributes.get("strides", [1] * axes)),
        "padding": tuple(_own_padding(node) or [0] * axes),
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
