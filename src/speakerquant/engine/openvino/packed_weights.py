"""Layers with weights of 4 and 2 bits, as OpenVINO's CPU plugin keeps them packed.

The plugin expands the packed weights of a convolution to FP32 and keeps those of a matrix product. So a
convolution becomes one product, over frames beside which lie those that its other taps see.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from openvino import Model, Node, Output, Type
from openvino import opset13 as ops

from speakerquant.engine.openvino.openvino_graph import stop

_TIME_LAST = (0, 2, 1)
_ROW = 2  # where a recording's features become an image of one row
_TWO_BITS = range(-2, 2)
_FOUR_BITS_OPSET = 21

Steps: TypeAlias = npt.NDArray[np.int8]
Scales: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Packed:
    """Weights ``[out, width, groups, length]`` and scales ``[out, width, groups]``."""

    steps: Steps
    scales: Scales


class _Numbers:
    """Constants that operations share: each takes as many bytes in an engine as a thousand weights."""

    def __init__(self) -> None:
        self.zero = ops.constant(np.float32(0))
        self.middle = ops.constant(np.float32(-_TWO_BITS.start))
        self._made: dict[tuple[int, ...], Node] = {}

    def of(self, *values: int) -> Node:
        """A list of whole numbers."""
        if values not in self._made:
            self._made[values] = ops.constant(np.array(values, np.int64))
        return self._made[values]


def readable(onnx_path: Path) -> Path | bytes:
    """The network as OpenVINO reads it: weights of 2 bits are declared as ones of 4, the fewest it knows."""
    network = onnx.load(onnx_path)
    narrow = [tensor for tensor in network.graph.initializer if tensor.data_type == TensorProto.INT2]
    if not narrow:
        return onnx_path
    for tensor in narrow:
        values = numpy_helper.to_array(tensor).astype(np.int8)
        four_bits = helper.tensor_dtype_to_np_dtype(TensorProto.INT4)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(four_bits), tensor.name))
    for entry in network.opset_import:
        entry.version = min(entry.version, _FOUR_BITS_OPSET)
    serialized: bytes = network.SerializeToString()
    return serialized


def keep_packed(model: Model) -> None:
    """Make products, in place, of all layers with packed weights; weights that fit 2 bits are stored in 2."""
    numbers = _Numbers()
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("Convolution", "MatMul"):
            continue
        packed = _packed(node.input_value(1).get_node())
        if packed is None:
            continue
        if node.get_type_name() == "MatMul":
            # A normalisation fused to such a product is applied wrongly, and not always (OpenVINO 2026.4).
            last, computed = node, stop(_product(node.input_value(0), packed, numbers))
        else:
            last, computed = _convolution(node, packed, numbers)
        for consumer in last.output(0).get_target_inputs():
            consumer.replace_source_output(computed)


def _convolution(node: Node, packed: _Packed, numbers: _Numbers) -> tuple[Node, Output]:
    """The last node of a convolution ``[B, in, T]`` to ``[B, out, T']``, and the same as one product."""
    product = _product(_frames(node, packed.steps.shape[1], numbers), packed, numbers)
    last, bias = _bias(node)
    if bias is not None:
        product = ops.add(product, ops.constant(bias)).output(0)
    return last, ops.transpose(product, numbers.of(*_TIME_LAST)).output(0)


def _bias(convolution: Node) -> tuple[Node, Scales | None]:
    """The node that adds a convolution's bias, and the bias ``[out]``; the convolution, if it has none."""
    for target in convolution.output(0).get_target_inputs():
        addition = target.get_node()
        if addition.get_type_name() == "Add":
            (stored,) = _sources(addition.input_value(1).get_node(), "Reshape") or [None]
            if stored is not None and stored.get_type_name() == "Constant":
                return addition, stored.data.reshape(-1)
    return convolution, None


def _frames(node: Node, width: int, numbers: _Numbers) -> Output:
    """What each value of a convolution is computed from, ``[B, T', width * in]``."""
    attributes = node.get_attributes()
    names = ("strides", "dilations", "pads_begin", "pads_end")
    [stride], [dilation], [before], [after] = (attributes[name] for name in names)
    keeps_length = stride == 1 and 2 * before == 2 * after == (width - 1) * dilation
    inputs = node.input_value(0)
    if not keeps_length and (before or after):
        begin, end = numbers.of(0, 0, before), numbers.of(0, 0, after)
        inputs = ops.pad(inputs, begin, end, "constant", numbers.zero)
    if width > 1 or stride > 1:
        row = ops.unsqueeze(inputs, numbers.of(_ROW))
        padding = "same_upper" if keeps_length else "valid"
        seen = ops.extract_image_patches(row, [1, width], [1, stride], [1, dilation], padding)
        inputs = ops.squeeze(seen, numbers.of(_ROW)).output(0)
    return ops.transpose(inputs, numbers.of(*_TIME_LAST)).output(0)


def _product(inputs: Output, packed: _Packed, numbers: _Numbers) -> Output:
    """``[..., width * in]`` times the weights, ``[..., out]``."""
    out, *_, length = packed.steps.shape
    # Groups of other lengths than powers of two are computed wrongly, and not always (OpenVINO 2026.4).
    shared = length & -length
    steps = packed.steps.reshape(out, -1, shared)
    scales = packed.scales.reshape(out, -1).repeat(length // shared, axis=1)[..., np.newaxis]
    if _TWO_BITS.start <= steps.min() and steps.max() < _TWO_BITS.stop:
        stored = ops.constant((steps - _TWO_BITS.start).astype(np.uint8), Type.u2)
        values = ops.subtract(ops.convert(stored, np.float32), numbers.middle)
    else:
        values = ops.convert(ops.constant(steps, Type.i4), np.float32)
    weights = ops.multiply(values, ops.constant(scales))
    matrix = ops.reshape(weights, numbers.of(out, -1), False)
    return ops.matmul(inputs, matrix, False, True).output(0)


def _packed(weight: Node) -> _Packed | None:
    """The packed weights that ONNX's blocks were read as, if they were.

    A constant, divided into groups unless there is one only, converted, scaled, and put together again.
    """
    (product,) = _sources(weight, "Reshape") or (weight,)
    if product.get_type_name() != "Multiply":
        return None
    conversion, scale = (product.input_value(index).get_node() for index in (0, 1))
    if conversion.get_type_name() != "Convert":
        return None
    [grouped] = _sources(conversion, "Convert")
    (stored,) = _sources(grouped, "Reshape") or (grouped,)
    if stored.get_type_name() != "Constant" or stored.get_element_type() != Type.i4:
        return None
    (scales,) = _sources(scale, "Unsqueeze") or (scale,)
    out, inputs, width = (*stored.output(0).get_shape(), 1)[:3]
    groups = scales.output(0).get_shape()[1]
    steps = _unpacked(stored, out * inputs * width).reshape(out, groups, inputs // groups, width)
    return _Packed(
        np.ascontiguousarray(np.moveaxis(steps, 3, 1)),
        np.ascontiguousarray(np.moveaxis(np.array(scales.data).reshape(out, groups, width), 2, 1)),
    )


def _sources(node: Node, kind: str) -> list[Node]:
    """What a node of this kind changes; nothing if it is of another."""
    return [node.input_value(0).get_node()] if node.get_type_name() == kind else []


def _unpacked(stored: Node, count: int) -> Steps:
    """Integers of 4 bits, two in each byte, the lower half first."""
    pairs = np.frombuffer(stored.data.tobytes(), np.uint8)
    halves = np.stack([pairs & 0xF, pairs >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8)
