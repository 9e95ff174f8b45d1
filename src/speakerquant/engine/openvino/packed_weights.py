"""Layers with integer weights and FP32 inputs, as OpenVINO's CPU plugin keeps their weights packed.

The plugin expands the packed weights of a convolution to FP32 and keeps those of a matrix product. So a
convolution becomes one product, over places beside which lie those that its other taps see.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from openvino import Model, Node, Output, Type
from openvino import opset13 as ops

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.engine.openvino.openvino_graph import is_of_kind, layer_name, stop
from speakerquant.graph.editing import constants_of
from speakerquant.graph.layer_nodes import LayerNode, layer_nodes
from speakerquant.quantization.rounding import IntegerWeights

_ROW = 2  # where features along time become an image of one row
_CHANNELS_LAST = {1: (0, 2, 1), 2: (0, 2, 3, 1)}
_CHANNELS_FIRST = {1: (0, 2, 1), 2: (0, 3, 1, 2)}
_TWO_BITS_MIDDLE = 2  # two bits are stored without a sign
_FOUR_BITS_OPSET = 21
_TYPES = {2: Type.u2, 4: Type.i4, 8: Type.i8}
_BITS: dict[int, int] = {TensorProto.INT2: 2, TensorProto.INT4: 4, TensorProto.INT8: 8}

Scales: TypeAlias = npt.NDArray[np.float32]


class _Numbers:
    """Constants that operations share: each takes as many bytes in an engine as a thousand weights."""

    def __init__(self) -> None:
        self.zero = ops.constant(np.float32(0))
        self.middle = ops.constant(np.float32(_TWO_BITS_MIDDLE))
        self._made: dict[tuple[int, ...], Node] = {}

    def of(self, *values: int) -> Node:
        """A list of whole numbers."""
        if values not in self._made:
            self._made[values] = ops.constant(np.array(values, np.int64))
        return self._made[values]


def readable(onnx_path: Path, network: onnx.ModelProto) -> Path | bytes:
    """The network as OpenVINO reads it: weights of 2 bits are declared as ones of 4, the fewest it knows."""
    if all(tensor.data_type != TensorProto.INT2 for tensor in network.graph.initializer):
        return onnx_path
    changed = onnx.ModelProto()
    changed.CopyFrom(network)
    for tensor in changed.graph.initializer:
        if tensor.data_type != TensorProto.INT2:
            continue
        values = numpy_helper.to_array(tensor).astype(np.int8)
        four_bits = helper.tensor_dtype_to_np_dtype(TensorProto.INT4)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(four_bits), tensor.name))
    for entry in changed.opset_import:
        entry.version = min(entry.version, _FOUR_BITS_OPSET)
    serialized: bytes = changed.SerializeToString()
    return serialized


def packed_bits(bits: int, geometry: LayerGeometry) -> int | None:
    """The bits in which weights of so many stay packed; none if the layer does not become one product.

    Those of grouped convolutions would be many. A row of weights has to fill whole bytes: others are computed
    wrongly (OpenVINO 2026.4).
    """
    if geometry.groups > 1:
        return None
    row = geometry.num_taps * geometry.channels_seen
    return next(each for each in _TYPES if bits <= each and not each * row % 8)


def keep_packed(model: Model, network: onnx.ModelProto) -> None:
    """Make products, in place, of all layers whose weights can stay packed.

    Args:
        model: The network as OpenVINO has read it.
        network: The same in ONNX, whose names the model keeps.
    """
    layers = {
        layer.node.name: layer
        for layer in layer_nodes(network.graph)
        if layer.has_integer_weights_only and packed_bits(_BITS[layer.weight.data_type], layer.geometry)
    }
    constants = constants_of(network.graph)
    numbers = _Numbers()
    for node in model.get_ordered_ops():
        layer = layers.get(layer_name(node)) if is_of_kind(node, "Convolution", "MatMul") else None
        if layer is None:
            continue
        if layer.geometry.num_axes == 0:
            # A normalisation fused to such a product is applied wrongly, and not always (OpenVINO 2026.4).
            last, computed = node, stop(_product(node.input_value(0), layer, constants, numbers))
        else:
            last, computed = _convolution(node, layer, constants, numbers)
        for consumer in last.output(0).get_target_inputs():
            consumer.replace_source_output(computed)


def _convolution(
    node: Node, layer: LayerNode, constants: Mapping[str, TensorProto], numbers: _Numbers
) -> tuple[Node, Output]:
    """The last node of a convolution ``[B, in, *places]``, and the same as one product."""
    product = _product(_seen(node.input_value(0), layer.geometry, numbers), layer, constants, numbers)
    last, bias = _bias(node)
    if bias is not None:
        product = ops.add(product, ops.constant(bias)).output(0)
    order = numbers.of(*_CHANNELS_FIRST[layer.geometry.num_axes])
    return last, ops.transpose(product, order).output(0)


def _bias(convolution: Node) -> tuple[Node, Scales | None]:
    """The node that adds a convolution's bias, and the bias ``[out]``; the convolution, if it has none."""
    for target in convolution.output(0).get_target_inputs():
        addition = target.get_node()
        if is_of_kind(addition, "Add"):
            (stored,) = _sources(addition.input_value(1).get_node(), "Reshape") or [None]
            if stored is not None and is_of_kind(stored, "Constant"):
                return addition, stored.data.reshape(-1)
    return convolution, None


def _seen(inputs: Output, geometry: LayerGeometry, numbers: _Numbers) -> Output:
    """What each output of a convolution is computed from, ``[B, *outputs, taps * in]``."""
    if geometry.is_padded and not geometry.keeps_length:
        begin, end = (numbers.of(0, 0, *amounts) for amounts in zip(*geometry.padding, strict=True))
        inputs = ops.pad(inputs, begin, end, "constant", numbers.zero).output(0)
    if geometry.num_taps > 1 or geometry.has_stride:
        flat = [1] * (2 - geometry.num_axes)  # axes of an image that the convolution does not have
        image = ops.unsqueeze(inputs, numbers.of(_ROW)) if flat else inputs
        sizes, strides, rates = (
            [*flat, *each] for each in (geometry.kernel, geometry.stride, geometry.dilation)
        )
        padding = "same_upper" if geometry.keeps_length else "valid"
        seen = ops.extract_image_patches(image, sizes, strides, rates, padding)
        inputs = (ops.squeeze(seen, numbers.of(_ROW)) if flat else seen).output(0)
    return ops.transpose(inputs, numbers.of(*_CHANNELS_LAST[geometry.num_axes])).output(0)


def _product(
    inputs: Output, layer: LayerNode, constants: Mapping[str, TensorProto], numbers: _Numbers
) -> Output:
    """``[..., taps * in]`` times the weights, ``[..., out]``."""
    assert layer.dequantize_weight is not None
    codes, scales = (
        np.array(numpy_helper.to_array(constants[name])) for name in layer.dequantize_weight.input[:2]
    )
    length = IntegerWeights(codes.astype(np.int8), scales).group_length
    columns = layer.geometry.columns(torch.from_numpy(codes.astype(np.int8))).numpy()
    if length is None:
        scales = scales[:, np.newaxis]
    else:
        columns = columns.reshape(len(columns), -1, length)
        scales = layer.geometry.columns(torch.from_numpy(scales)).numpy()[..., np.newaxis]
    bits = packed_bits(_BITS[layer.weight.data_type], layer.geometry)
    assert bits is not None
    kind = _TYPES[bits]
    if kind == Type.u2:
        stored = ops.constant((columns + _TWO_BITS_MIDDLE).astype(np.uint8), kind)
        values = ops.subtract(ops.convert(stored, np.float32), numbers.middle)
    else:
        values = ops.convert(ops.constant(columns, kind), np.float32)
    weights = ops.multiply(values, ops.constant(np.ascontiguousarray(scales)))
    matrix = weights if length is None else ops.reshape(weights, numbers.of(len(columns), -1), False)
    return ops.matmul(inputs, matrix, False, True).output(0)


def _sources(node: Node, kind: str) -> list[Node]:
    """What a node of this kind changes; nothing if it is of another."""
    return [node.input_value(0).get_node()] if is_of_kind(node, kind) else []
