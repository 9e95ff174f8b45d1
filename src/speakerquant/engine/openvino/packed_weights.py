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
_TIME = 1
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
            computed = stop(_product(node.input_value(0), packed, numbers))
        else:
            computed = _convolution(node, packed, numbers)
        for consumer in node.output(0).get_target_inputs():
            consumer.replace_source_output(computed)


def _convolution(node: Node, packed: _Packed, numbers: _Numbers) -> Output:
    """The convolution ``[B, in, T]`` to ``[B, out, T']`` as one product."""
    attributes = node.get_attributes()
    [before], [after], [dilation] = (attributes[name] for name in ("pads_begin", "pads_end", "dilations"))
    frames = ops.transpose(node.input_value(0), numbers.of(*_TIME_LAST))
    if before or after:
        begin, end = numbers.of(0, before, 0), numbers.of(0, after, 0)
        frames = ops.pad(frames, begin, end, "constant", numbers.zero)
    width = packed.steps.shape[1]
    if width > 1:
        seen = []
        for tap in range(width):
            rest = (width - 1 - tap) * dilation  # frames at the end that only later taps see
            stop_at = -rest if rest else np.iinfo(np.int64).max
            bounds = (numbers.of(tap * dilation), numbers.of(stop_at))
            seen.append(ops.slice(frames, *bounds, numbers.of(1), numbers.of(_TIME)))
        frames = ops.concat(seen, 2)
    product = _product(frames.output(0), packed, numbers)
    return ops.transpose(product, numbers.of(*_TIME_LAST)).output(0)


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
