"""The network as TensorRT takes it best: two-dimensional, Q/DQ pairs around FP32 weights.

TensorRT's convolutions are two-dimensional. Left to itself, its parser puts a reshape between each layer of
fewer axes and its Q/DQ nodes, which must meet directly for the layer to become INT8; and before version 10 it
wants weights as FP32 followed by Q/DQ. None of this changes what the network computes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.engine.tensorrt.images import Images, as_image
from speakerquant.engine.tensorrt.packed_products import packed_product, stays_packed
from speakerquant.graph.editing import constants_of, is_blocked, remove_unused, replace_nodes, store
from speakerquant.graph.layer_nodes import LayerNode, convolution_attributes, layer_nodes
from speakerquant.quantization.rounding import IntegerWeights


def adapt(model: onnx.ModelProto) -> None:
    """Change, in place, a network that :func:`speakerquant.graph.masking.write_mask` wrote.

    Args:
        model: The network; its input and output stay what they are.
    """
    graph = model.graph
    layers = {layer.node.output[0]: layer for layer in layer_nodes(graph)}
    constants = constants_of(graph)
    images = Images(graph, {each.node.input[0]: _rank(each.geometry) for each in layers.values()})
    for node in graph.node:
        layer = layers.get(node.output[0])
        if layer is None:
            images.add(node)
            continue
        rank = _rank(layer.geometry)
        node.input[0], node.output[0] = images.image(node.input[0], rank), images.made(node.output[0], rank)
        images.nodes.extend(_layer(layer, graph, constants))
    for output in graph.output:
        images.restore(output.name)
    del graph.value_info[:]
    replace_nodes(graph, images.nodes)
    remove_unused(graph)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether any layer is INT8."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def computes_in_half(model: onnx.ModelProto) -> bool:
    """Whether any layer is FP16."""
    return any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)


def _rank(geometry: LayerGeometry) -> int:
    """Rank of a layer's input and output: recordings, channels, and what its kernel moves along."""
    return 2 + geometry.num_axes


def _layer(
    layer: LayerNode, graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto]
) -> Iterator[onnx.NodeProto]:
    """A convolution or linear layer as a two-dimensional convolution of images."""
    node, geometry, dequantize = layer.node, layer.geometry, layer.dequantize_weight
    [output] = node.output
    source, weight, *bias = node.input

    def constant(kind: str, array: npt.NDArray[np.generic]) -> str:
        # by the layer, not by the tensor, whose name layers of equal weights share
        return store(graph, f"{output}/{kind}", array)

    def value(name: str) -> npt.NDArray[Any]:
        return numpy_helper.to_array(constants[name])

    if dequantize is None:
        weight = constant("kernel", as_image(value(weight)))
    elif layer.has_integer_weights_only:
        if stays_packed(geometry) and is_blocked(dequantize):
            yield from packed_product(node, geometry, dequantize, constants, graph)
            return
        codes, scales = (value(name) for name in dequantize.input[:2])
        weight = constant("kernel", as_image(IntegerWeights(codes.astype(np.int8), scales).values))
    else:
        quantized, scale, zero_point = dequantize.input
        codes = value(quantized).astype(np.float32)
        scales = value(scale).reshape(-1, *(1 for _ in codes.shape[1:]))
        int8, weight = f"{output}/kernel_int8", f"{output}/kernel_fp32"
        kernel = constant("kernel", as_image(codes * scales))
        yield helper.make_node("QuantizeLinear", [kernel, scale, zero_point], [int8], axis=0)
        yield helper.make_node("DequantizeLinear", [int8, scale, zero_point], [weight], axis=0)
    attributes = convolution_attributes(geometry.in_two_dimensions())
    yield helper.make_node("Conv", [source, weight, *bias], [output], node.name, **attributes)
