"""Convolves once what is the same in every frame of a recording."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from speakerquant.graph.editing import (
    Makers,
    constants_of,
    is_blocked,
    makers_of,
    remove_unused,
    replace_nodes,
    store,
)
from speakerquant.graph.layer_nodes import LayerNode, layer_nodes

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def convolve_constants_once(graph: onnx.GraphProto) -> None:
    """Convolve what is the same in every frame once, not once per frame.

    The attention looks at each frame beside mean and deviation of the whole recording. A convolution of
    kernel 1 over their concatenation is the sum of one per part, and what was expanded along time needs
    one frame only. Convolutions over other concatenations stay as they are.
    """
    widths = {value.name: _width(value) for value in graph.value_info}
    makers = makers_of(graph)
    constants = constants_of(graph)
    pointwise = {
        layer.node.output[0]: layer
        for layer in layer_nodes(graph)
        if layer.node.op_type == "Conv" and layer.geometry.is_pointwise
    }
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        layer = pointwise.get(node.output[0])
        chain = _quantizers_behind_concatenation(node, makers) if layer else None
        if (
            layer
            and chain
            and _repeats_equal_parts(chain[0], makers, widths)
            and _scales_fit_parts(layer.dequantize_weight, len(chain[0].input), constants)
        ):
            nodes.extend(_by_parts(layer, *chain, makers, constants, graph))
        else:
            nodes.append(node)
    replace_nodes(graph, nodes)
    remove_unused(graph)


def _quantizers_behind_concatenation(
    node: onnx.NodeProto, makers: Makers
) -> tuple[onnx.NodeProto, list[onnx.NodeProto]] | None:
    """The concatenation that a layer is of, and what quantizes it, if anything does."""
    quantizers: list[onnx.NodeProto] = []
    maker = makers.get(node.input[0])
    while maker is not None and maker.op_type in _QUANTIZERS:
        quantizers.insert(0, maker)
        maker = makers.get(maker.input[0])
    return (maker, quantizers) if maker is not None and maker.op_type == "Concat" else None


def _repeats_equal_parts(
    concatenation: onnx.NodeProto, makers: Makers, widths: Mapping[str, int | None]
) -> bool:
    """Whether equally wide parts are concatenated along the channels, some of them expanded along time."""
    expanded = {
        name: makers[name].input[0]
        for name in concatenation.input
        if name in makers and makers[name].op_type == "Expand"
    }
    parts = {widths.get(expanded.get(name, name)) for name in concatenation.input}
    along_channels = helper.get_attribute_value(concatenation.attribute[0]) == 1
    # By parts, the length is that of the others.
    are_some = bool(expanded) and any(name not in expanded for name in concatenation.input)
    return along_channels and are_some and len(parts) == 1 and None not in parts


def _width(value: onnx.ValueInfoProto) -> int | None:
    """Number of channels of a tensor ``[batch, channels, ...]``; none if it is not known."""
    shape = value.type.tensor_type.shape.dim
    return shape[1].dim_value or None if len(shape) > 1 else None


def _by_parts(
    layer: LayerNode,
    concatenation: onnx.NodeProto,
    quantizers: Sequence[onnx.NodeProto],
    makers: Makers,
    constants: Mapping[str, onnx.TensorProto],
    graph: onnx.GraphProto,
) -> Iterator[onnx.NodeProto]:
    """The convolution as a sum of one per part of the concatenation; all parts are equally wide."""
    convolution = layer.node
    _, weight, *bias = convolution.input
    dequantizers = [layer.dequantize_weight] if layer.dequantize_weight else []
    stored = dequantizers[0].input[0] if dequantizers else weight

    def parts_of(name: str) -> Iterator[str]:
        """The constant's parts along the input channels, stored under names of their own."""
        parts = np.split(numpy_helper.to_array(constants[name]), len(concatenation.input), axis=1)
        for index, part in enumerate(parts):
            yield store(graph, f"{name}/{index}", part)

    kernels = [*parts_of(stored)]
    scales = [*parts_of(dequantizers[0].input[1])] if any(map(is_blocked, dequantizers)) else []
    outputs = []
    for index, (source, name) in enumerate(zip(concatenation.input, kernels, strict=True)):
        maker = makers.get(source)
        if maker is not None and maker.op_type == "Expand":
            source = maker.input[0]
        for quantizer in quantizers:
            yield (copied := _copy(quantizer, index, [source, *quantizer.input[1:]]))
            source = copied.output[0]
        for dequantizer in dequantizers:
            inputs = [scales[index]] if scales else dequantizer.input[1:]
            yield (copied := _copy(dequantizer, index, [name, *inputs]))
            name = copied.output[0]
        yield (copied := _copy(convolution, index, [source, name, *(bias if index == 0 else [])]))
        outputs.append(copied.output[0])
    yield helper.make_node("Sum", outputs, convolution.output, f"{convolution.name}/Sum")


def _scales_fit_parts(
    dequantizer: onnx.NodeProto | None, num_parts: int, constants: Mapping[str, onnx.TensorProto]
) -> bool:
    """Whether no group of input channels lies in two parts."""
    if dequantizer is None or not is_blocked(dequantizer):
        return True
    return bool(constants[dequantizer.input[1]].dims[1] % num_parts == 0)


def _copy(node: onnx.NodeProto, index: int, inputs: Sequence[str]) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    copied.name = f"{node.name}/{index}"
    copied.input[:] = inputs
    copied.output[:] = [f"{name}/{index}" for name in node.output]
    return copied
