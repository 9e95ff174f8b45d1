"""What makes engines of TensorRT for RTX smaller: fewer kernels, each of which brings 130 kB of source text.

An engine holds the source of every kernel that its compiler generated, complete with a prelude, to be
compiled for the GPU at hand when it is first run. Numbers in a network become part of the source, tensors do
not: layers that differ in a number need a kernel each. Convolutions come from a library and take none.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from speakerquant.graph.editing import (
    Makers,
    Readers,
    constants_of,
    makers_of,
    readers_of,
    remove_unused,
    replace_nodes,
    store,
)
from speakerquant.graph.layer_nodes import geometry_of

_STEP = "step"
_CHANNELS = 1
_BY_CHANNEL = ("Relu", "BatchNormalization")


def convolve_groups_apart(model: onnx.ModelProto) -> None:
    """Compute each group of a split convolution by a convolution of its own, in place.

    What lies between them, activations and normalisations by channel, is split likewise. Quantized
    convolutions stay whole: the compiler merges their split with the quantization of what follows.

    Args:
        model: A network of two-dimensional convolutions (:func:`.tensorrt_graph.adapt`).
    """
    graph = model.graph
    constants = constants_of(graph)
    makers, readers = makers_of(graph), readers_of(graph)
    replaced: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type != "Split" or _attribute(node, "axis", 0) != _CHANNELS:
            continue
        chain = _chain(node, makers, readers)
        if chain and chain[0].input[1] in constants:
            sizes = numpy_helper.to_array(constants[node.input[1]])
            replaced[node.output[0]] = _apart(chain, node.output, sizes, constants, graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.extend(replaced.get(node.output[0], [node]))
    replace_nodes(graph, nodes)
    remove_unused(graph)


def _chain(split: onnx.NodeProto, makers: Makers, readers: Readers) -> list[onnx.NodeProto]:
    """The convolution whose channels are split and what lies between; empty if it is not of this form."""
    chain: list[onnx.NodeProto] = []
    node: onnx.NodeProto | None = split
    while node is not None and len(readers[node.input[0]]) == 1:
        node = makers.get(node.input[0])
        if node is not None and node.op_type == "Conv":
            return [node, *chain] if _attribute(node, "group", 1) == 1 else []
        if node is None or node.op_type not in _BY_CHANNEL:
            return []
        chain.insert(0, node)
    return []


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((entry.i for entry in node.attribute if entry.name == name), default)


def _apart(
    chain: Sequence[onnx.NodeProto],
    groups: Sequence[str],
    sizes: npt.NDArray[np.int64],
    constants: dict[str, onnx.TensorProto],
    graph: onnx.GraphProto,
) -> list[onnx.NodeProto]:
    """The nodes of the chain once for each group, with the rows of their constants that belong to it."""
    nodes = []
    for group, start, size in zip(groups, np.cumsum(sizes) - sizes, sizes, strict=True):
        source = chain[0].input[0]
        for number, node in enumerate(chain):
            copied = onnx.NodeProto()
            copied.CopyFrom(node)
            copied.name = f"{group}/{number}"
            copied.input[:] = [source]
            for position, name in enumerate(node.input[1:]):
                # by the place, not by the name, which layers of equal weights share
                part = f"{copied.name}/{position}"
                rows: npt.NDArray[Any] = numpy_helper.to_array(constants[name])[start : start + size]
                copied.input.append(store(graph, part, rows))
            source = group if node is chain[-1] else copied.name
            copied.output[:] = [source]
            nodes.append(copied)
    return nodes


def quantize_in_equal_steps(model: onnx.ModelProto) -> None:
    """Quantize every layer's input in steps of 1, in place, so that all layers can share a kernel.

    What a step stands for goes where it is a tensor: its reciprocal is multiplied into the channels before,
    and itself into the weights and their scales. All stays what it was but for FP32's own rounding.

    Args:
        model: A network of two-dimensional convolutions (:func:`.tensorrt_graph.adapt`).
    """
    graph = model.graph
    constants = constants_of(graph)
    makers, readers = makers_of(graph), readers_of(graph)
    one = store(graph, _STEP, np.float32(1))
    nodes: list[onnx.NodeProto] = []
    for quantize in graph.node:
        if quantize.op_type == "QuantizeLinear" and makers.get(quantize.input[0]) is not None:
            step = numpy_helper.to_array(constants[quantize.input[1]])
            [dequantize] = readers[quantize.output[0]]
            layers = readers[dequantize.output[0]]
            for layer in layers:
                channels = _multiply_into_weights(layer, step, makers, constants, graph)
            factor = np.full((1, channels, 1, 1), 1 / step, np.float32)
            scaled = f"{quantize.output[0]}/scaled"
            factors = store(graph, f"{quantize.output[0]}/factors", factor)
            nodes.append(
                helper.make_node("Mul", [quantize.input[0], factors], [scaled], f"{quantize.name}/Mul")
            )
            quantize.input[:2] = [scaled, one]
            dequantize.input[1] = one
        nodes.append(quantize)
    replace_nodes(graph, nodes)
    remove_unused(graph)


def _multiply_into_weights(
    layer: onnx.NodeProto,
    step: npt.NDArray[np.float32],
    makers: Makers,
    constants: dict[str, onnx.TensorProto],
    graph: onnx.GraphProto,
) -> int:
    """Let the weights of a quantized layer stand for products with ``step``; the number of input channels."""
    dequantize = makers[layer.input[1]]
    quantize = makers[dequantize.input[0]]
    geometry = geometry_of(layer, constants[quantize.input[0]])
    kernel, scales = (numpy_helper.to_array(constants[name]) * step for name in quantize.input[:2])
    quantize.input[0] = store(graph, f"{quantize.input[0]}/in_steps", kernel)
    quantize.input[1] = store(graph, f"{layer.output[0]}/scales_in_steps", scales)
    dequantize.input[1] = quantize.input[1]
    return geometry.in_channels
