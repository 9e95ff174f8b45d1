"""Layers with integer weights and FP32 inputs, as OpenVINO's CPU plugin keeps their weights packed.

The plugin expands packed weights to FP32 when it compiles, but for those of matrix products. So linear layers
and convolutions along time become one product each, over frames beside which lie those that the other taps
see. The weights of all others are bytes that every request looks up in a table. Which table depends on the
request, as far as the plugin can tell, so that it can compute nothing before.
"""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from openvino import Model, Node, Output, Tensor, Type
from openvino import opset13 as ops

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.engine.openvino.frames_first import exchanged, with_frames_first
from speakerquant.engine.openvino.openvino_graph import is_of_kind, layer_name, read_instead, stop
from speakerquant.graph.editing import constants_of
from speakerquant.graph.frame_rounding import NUM_OPERATIONS
from speakerquant.graph.layer_nodes import layer_nodes
from speakerquant.quantization.precision import INPUT_GROUP
from speakerquant.quantization.rounding import IntegerWeights

INPUT_GROUP_OPTION = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
"""Of how many channels packed products round inputs by, where there is VNNI; by 0, they do not."""

_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
_FRAMES, _CHANNELS = 1, 2  # axes of what a product is computed from
_FEWEST_COLUMNS = 4
_TWO_BITS_MIDDLE = 2  # two bits are stored without a sign
_FOUR_BITS_OPSET = 21
_TYPES = {2: Type.u2, 4: Type.i4, 8: Type.i8}
_BITS: dict[int, int] = {TensorProto.INT2: 2, TensorProto.INT4: 4, TensorProto.INT8: 8}
_BYTE = 8
_UNUSED_AXES = (1, 1, 1)  # with more than six, an operation is not compiled, and described in 1.4 kB less

Scales: TypeAlias = npt.NDArray[np.float32]


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


def _is_product(bits: int, geometry: LayerGeometry) -> bool:
    """Whether a layer becomes one product.

    Products of grouped convolutions would be many. Images have so many places that expanding the weights
    takes less time than laying side by side what each place sees. Where a row of weights does not fill whole
    bytes, is shorter than four, or is the only one, the product can be wrong (OpenVINO 2026.4).
    """
    columns = geometry.num_taps * geometry.channels_seen
    is_possible = columns >= _FEWEST_COLUMNS and not bits * columns % _BYTE and geometry.out_channels > 1
    return is_possible and geometry.groups == 1 and geometry.num_axes < 2


def can_round_frames(bits: int) -> bool:
    """Whether products with such weights round their inputs in each frame, if the processor can."""
    return _would_round(bits, INPUT_GROUP)


def keep_packed(model: Model, network: onnx.ModelProto) -> Model:
    """The network with the weights of all layers packed that have integer weights only.

    It is told whether its products round their inputs.

    Args:
        model: The network as OpenVINO has read it, which may be changed.
        network: The same in ONNX, whose names the model keeps.
    """
    layers = {
        layer.node.name: layer for layer in layer_nodes(network.graph) if layer.has_integer_weights_only
    }
    if not layers:
        return _rounding_by(0, model)
    rounds_any = any(layer.rounds_frames for layer in layers.values())
    constants = constants_of(network.graph)
    shared = _Shared(model)
    for node in model.get_ordered_ops():
        layer = layers.get(layer_name(node)) if is_of_kind(node, *_LAYERS) else None
        if layer is None:
            continue
        assert layer.dequantize_weight is not None
        stored, scales = (
            np.array(numpy_helper.to_array(constants[name])) for name in layer.dequantize_weight.input[:2]
        )
        weights = IntegerWeights(stored.astype(np.int8), scales)
        bits = _BITS[layer.weight.data_type]
        if layer.rounds_frames:
            node.input(0).replace_source_output(_before_rounding(node.input_value(0)))
        rounds = rounds_any and _would_round(bits, weights.group_length)
        if _is_product(bits, layer.geometry) and rounds == layer.rounds_frames:
            _become_product(node, layer.geometry, bits, weights, shared)
        else:
            node.input(1).replace_source_output(
                _looked_up(bits, weights, node.get_input_shape(1), shared).output(0)
            )
    return _rounding_by(INPUT_GROUP if rounds_any else 0, with_frames_first(model))


def half_the_sum_of_one_group() -> Model:
    """A small product with weights of 4 bits that rounds its input, all of whose outputs are half its sum."""
    features = ops.parameter([1, INPUT_GROUP], np.float32)
    integers = np.ones((_BYTE, INPUT_GROUP), np.int8)
    values = ops.multiply(ops.convert(_packed(integers, 4), np.float32), np.full((_BYTE, 1), 0.5, np.float32))
    return _rounding_by(INPUT_GROUP, Model([ops.matmul(features, values, False, True)], [features]))


def _rounding_by(size: int, model: Model) -> Model:
    """The model whose products round their inputs so many channels by as many, which its blob keeps."""
    model.set_rt_info(str(size), ["runtime_options", INPUT_GROUP_OPTION])
    return model


def _before_rounding(rounded: Output) -> Output:
    """What is rounded by frame, which the product does itself."""
    for _ in range(NUM_OPERATIONS):
        rounded = rounded.get_node().input_value(0)
    return rounded


def _would_round(bits: int, group_length: int | None) -> bool:
    """Whether a product rounds its input in a network in which any does (OpenVINO 2026.4)."""
    return _TYPES[bits] != Type.u2 and (group_length is None or group_length % INPUT_GROUP == 0)


class _Shared:
    """Constants that layers share: each takes as many bytes in an engine as a thousand weights."""

    def __init__(self, model: Model) -> None:
        self._features = model.input(0).get_node()
        self._zero = ops.constant(np.int64(0))
        self._numbers: dict[tuple[int, ...], Node] = {}
        self._tables: dict[int, Node] = {}
        self.first_axis = ops.constant(np.int64(1))
        self.no_value = ops.constant(np.float32(0))
        self.middle = ops.constant(np.float32(_TWO_BITS_MIDDLE))

    def numbers(self, *values: int) -> Node:
        """A list of whole numbers."""
        if values not in self._numbers:
            self._numbers[values] = ops.constant(np.array(values, np.int64))
        return self._numbers[values]

    def table(self, bits: int) -> Node:
        """The integers of so many bits that each byte holds, ``[integers, 256]``."""
        if bits not in self._tables:
            integers = [np.arange(2**_BYTE) >> start & 2**bits - 1 for start in range(0, _BYTE, bits)]
            values = (np.stack(integers) - 2 ** (bits - 1)).astype(np.float32)
            num_recordings = ops.gather(ops.shape_of(self._features), self._zero, self._zero)
            none = ops.minimum(num_recordings, self._zero)  # which the plugin does not know
            self._tables[bits] = ops.gather(ops.constant(values[np.newaxis]), none, self._zero)
        return self._tables[bits]


def _looked_up(bits: int, weights: IntegerWeights, shape: tuple[int, ...], shared: _Shared) -> Node:
    """The values of weights, from a table at every request.

    A byte holds the integers of several output channels, those of its first bits from the first part of the
    channels and so on, so that what is looked up lies in order. Channels of zeros fill the last bytes.
    """
    codes, scales = weights.codes, weights.scales
    length = weights.group_length or codes.shape[1]
    num_taps = int(np.prod(codes.shape[2:]))
    out_channels = len(codes)
    added = -out_channels % (_BYTE // bits)
    behind = [(0, added), (0, 0)]
    rows = np.pad(codes.reshape(out_channels, -1), behind) + np.int16(2 ** (bits - 1))
    parts = rows.astype(np.uint8).reshape(_BYTE // bits, -1, length, num_taps, *_UNUSED_AXES)
    stored = ops.constant(_in_bytes(parts, bits))
    integers = ops.gather(shared.table(bits), stored, shared.first_axis)
    factors = np.pad(scales.reshape(out_channels, -1), behind).reshape(*parts.shape[:2], 1, -1, *_UNUSED_AXES)
    values = ops.multiply(integers, ops.constant(factors))
    if added:
        by_channel = ops.reshape(values, shared.numbers(out_channels + added, -1), False)
        bounds = (shared.numbers(number) for number in (0, out_channels, 1, 0))
        values = ops.slice(by_channel, *bounds)
    return ops.reshape(values, shared.numbers(*shape), False)


def _become_product(
    node: Node, geometry: LayerGeometry, bits: int, weights: IntegerWeights, shared: _Shared
) -> None:
    """Compute a layer as one product."""
    if geometry.num_axes == 0:
        # A normalisation fused to such a product is applied wrongly, and not always (OpenVINO 2026.4).
        last, computed = node, stop(_product(node.input_value(0), geometry, bits, weights, shared))
    else:
        product = _product(_seen(node.input_value(0), geometry, shared), geometry, bits, weights, shared)
        last, bias = _bias(node)
        if bias is not None:
            product = ops.add(product, ops.constant(bias)).output(0)
        computed = exchanged(product)
    read_instead(last.output(0), computed)


def _bias(convolution: Node) -> tuple[Node, Scales | None]:
    """The node that adds a convolution's bias, and the bias ``[out]``; the convolution, if it has none."""
    for target in convolution.output(0).get_target_inputs():
        addition = target.get_node()
        if is_of_kind(addition, "Add"):
            (stored,) = _sources(addition.input_value(1).get_node(), "Reshape") or [None]
            if stored is not None and is_of_kind(stored, "Constant"):
                return addition, stored.data.reshape(-1)
    return convolution, None


def _seen(inputs: Output, geometry: LayerGeometry, shared: _Shared) -> Output:
    """What each output of a convolution along time is computed from, ``[B, T, taps * in]``."""
    inputs = exchanged(inputs)
    if geometry.is_pointwise:
        return inputs
    [stride], [dilation], [padding] = geometry.stride, geometry.dilation, geometry.padding
    if geometry.is_padded:
        begin, end = (shared.numbers(0, amount, 0) for amount in padding)
        inputs = ops.pad(inputs, begin, end, "constant", shared.no_value).output(0)
    by_tap = []
    for tap in range(geometry.num_taps):
        left = (geometry.num_taps - 1 - tap) * dilation  # frames behind the last that this tap sees
        until = -left if left else np.iinfo(np.int64).max
        bounds = (shared.numbers(number) for number in (tap * dilation, until, stride))
        by_tap.append(ops.slice(inputs, *bounds, shared.numbers(_FRAMES)))
    return ops.concat(by_tap, _CHANNELS).output(0)


def _product(
    inputs: Output, geometry: LayerGeometry, bits: int, weights: IntegerWeights, shared: _Shared
) -> Output:
    """``[..., taps * in]`` times the weights, ``[..., out]``."""
    columns, scales = geometry.columns(torch.from_numpy(weights.codes)).numpy(), weights.scales
    length = weights.group_length
    if length is None:
        scales = scales[:, np.newaxis]
    else:
        columns = columns.reshape(len(columns), -1, length)
        scales = geometry.columns(torch.from_numpy(scales)).numpy()[..., np.newaxis]
    if _TYPES[bits] == Type.u2:
        stored = _packed(columns + np.int8(_TWO_BITS_MIDDLE), bits)
        values = ops.subtract(ops.convert(stored, np.float32), shared.middle)
    else:
        values = ops.convert(_packed(columns, bits), np.float32)
    scaled = ops.multiply(values, ops.constant(np.ascontiguousarray(scales)))
    matrix = scaled if length is None else ops.reshape(scaled, shared.numbers(len(columns), -1), False)
    return ops.matmul(inputs, matrix, False, True).output(0)


def _packed(integers: npt.NDArray[np.int8], bits: int) -> Node:
    """A constant of integers of so many bits; OpenVINO (2026.4) takes thirty times as long to pack them."""
    neighbours = integers.view(np.uint8).reshape(-1, _BYTE // bits).T & np.uint8(2**bits - 1)
    stored = _in_bytes(neighbours, bits)
    return ops.constant(Tensor(stored, integers.shape, _TYPES[bits]), shared_memory=False)


def _in_bytes(parts: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Bytes of integers of so many bits, those of the first part in the lowest bits."""
    stored: npt.NDArray[np.uint8] = np.zeros_like(parts[0])
    for place, part in enumerate(parts):
        stored |= part << np.uint8(place * bits)
    return stored


def _sources(node: Node, kind: str) -> list[Node]:
    """What a node of this kind changes; nothing if it is of another."""
    return [node.input_value(0).get_node()] if is_of_kind(node, kind) else []
