"""The network as TensorRT takes it best: two-dimensional, Q/DQ pairs around FP32 weights.

TensorRT's convolutions are two-dimensional. Left to itself, its parser puts a reshape between each layer and
its Q/DQ nodes, which must meet directly for the layer to become INT8; and before version 10 it wants weights
as FP32 followed by Q/DQ. None of this changes what the network computes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from speakerquant.engine.tensorrt.packed_products import packed_product, stays_packed
from speakerquant.graph.editing import constants_of, is_blocked, remove_unused, store
from speakerquant.graph.layer_nodes import convolution_attributes, geometry_of
from speakerquant.quantization.rounding import IntegerWeights

_ELEMENTWISE = ("Add", "Sum", "Sub", "Mul", "Div")
_SAME_IN_TWO_DIMENSIONS = {
    *("Relu", "Sigmoid", "Tanh", "Sqrt", "Clip", "BatchNormalization"),
    *("Slice", "Split", "Concat", "Softmax", "Expand", "Shape", "Gather", "Constant"),
    *("Cast", "QuantizeLinear", "DequantizeLinear"),
}
# Two names of one tensor: the exporter's way of storing equal weights once, or a last axis that now stays.
_ALIASES = ("Identity", "Squeeze")
_REDUCTIONS = ("ReduceMean", "ReduceSum")


def adapt(model: onnx.ModelProto) -> None:
    """Change, in place, a network that :func:`speakerquant.graph.masking.write_mask` wrote.

    Args:
        model: The network; its input stays ``[B, n_mels, T]`` and its output ``[B, dim]``.

    Raises:
        ValueError: an operation that is not known to be the same in two dimensions.
    """
    graph = model.graph
    constants = constants_of(graph)
    dequantized = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    [features], [embeddings] = graph.input, graph.output
    last_axes = [numpy_helper.from_array(np.array(axes, np.int64), str(axes)) for axes in ([3], [2, 3])]
    graph.initializer.extend(last_axes)
    image, column = f"{features.name}/image", f"{embeddings.name}/column"
    nodes = [helper.make_node("Unsqueeze", [features.name, last_axes[0].name], [image])]
    names = {features.name: image}
    for node in graph.node:
        if node.op_type in _ALIASES:
            names[node.output[0]] = names.get(node.input[0], node.input[0])
            continue
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [column if name == embeddings.name else name for name in node.output]
        if node.op_type in ("Conv", "Gemm"):
            nodes.extend(_layer(node, graph, constants, dequantized))
            continue
        if node.op_type in _REDUCTIONS:
            _set(node, keepdims=1)
        elif node.op_type == "Pad":
            amounts = np.insert(numpy_helper.to_array(constants[node.input[1]]), [3, 6], 0)
            node.input[1] = store(graph, f"{node.input[1]}/two_dimensional", amounts)
        elif node.op_type in _ELEMENTWISE:
            for index, name in enumerate(node.input):
                if name in constants and len(constants[name].dims) > 1:
                    value = _as_image(numpy_helper.to_array(constants[name]))
                    node.input[index] = store(graph, f"{node.output[0]}/{index}", value)
        elif node.op_type not in _SAME_IN_TWO_DIMENSIONS:
            raise ValueError(f"{node.op_type} is not known to be the same in two dimensions")
        nodes.append(node)
    nodes.append(helper.make_node("Squeeze", [column, last_axes[1].name], [embeddings.name]))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    remove_unused(graph)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether any layer is INT8."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def computes_in_half(model: onnx.ModelProto) -> bool:
    """Whether any layer is FP16."""
    return any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)


def _layer(
    node: onnx.NodeProto,
    graph: onnx.GraphProto,
    constants: dict[str, onnx.TensorProto],
    dequantized: dict[str, onnx.NodeProto],
) -> Iterator[onnx.NodeProto]:
    """A convolution or linear layer as a two-dimensional convolution."""

    def constant(kind: str, array: npt.NDArray[np.generic]) -> str:
        # by the layer, not by the tensor, whose name layers of equal weights share
        return store(graph, f"{layer}/{kind}", array)

    def value(name: str) -> npt.NDArray[Any]:
        return numpy_helper.to_array(constants[name])

    [layer] = node.output
    source, weight, *bias = node.input
    dequantize = dequantized.get(weight)
    geometry = geometry_of(node, constants[dequantize.input[0] if dequantize is not None else weight])
    if dequantize is not None and source not in dequantized:
        codes, scales = (value(name) for name in dequantize.input[:2])
        if stays_packed(geometry) and is_blocked(dequantize):
            yield from packed_product(node, geometry, dequantize, constants, graph)
            return
        weight = constant("kernel", _as_image(IntegerWeights(codes.astype(np.int8), scales).values))
    elif dequantize is not None:
        quantized, scale, zero_point = dequantize.input
        codes = value(quantized).astype(np.float32)
        scales = value(scale).reshape(-1, *(1 for _ in codes.shape[1:]))
        int8, weight = f"{layer}/kernel_int8", f"{layer}/kernel_fp32"
        kernel = constant("kernel", _as_image(codes * scales))
        yield helper.make_node("QuantizeLinear", [kernel, scale, zero_point], [int8], axis=0)
        yield helper.make_node("DequantizeLinear", [int8, scale, zero_point], [weight], axis=0)
    else:
        weight = constant("kernel", _as_image(value(weight)))
    attributes = convolution_attributes(geometry.in_two_dimensions())
    yield helper.make_node("Conv", [source, weight, *bias], [layer], node.name, **attributes)


def _as_image(weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """``[out, in]`` or ``[out, in, width]`` as ``[out, in, width, 1]``, and so on."""
    return weight.reshape(*weight.shape, *[1] * (4 - weight.ndim))


def _set(node: onnx.NodeProto, **attributes: int) -> None:
    for attribute in list(node.attribute):
        if attribute.name in attributes:
            node.attribute.remove(attribute)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
