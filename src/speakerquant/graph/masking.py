"""Puts a mask on an exported network: which layers keep their Q/DQ nodes, with which scales and weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.version_converter import convert_version

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.files import atomic_path
from speakerquant.graph.batch_normalisation import multiply_batch_normalisations_into_scales
from speakerquant.graph.editing import constants_of, follow, remove_unused, store
from speakerquant.graph.frame_rounding import round_frames
from speakerquant.graph.layer_nodes import LAYERS, geometry_of, layer_nodes
from speakerquant.graph.passes import compute_in_half
from speakerquant.graph.repeated_frames import convolve_constants_once
from speakerquant.quantization.found_ranges import rounds_frames
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FloatType, InputRange, Precision, WeightFormat
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import IntegerWeights, Rounding, WeightRounding
from speakerquant.quantization.scales import MAX_WEIGHT_BITS, input_scale, weight_scales

_ZERO_POINT = "zero_point"


@dataclass(frozen=True)
class _StoredType:
    """A type of integer weights in ONNX, and the version of its operators that knows it."""

    bits: int
    dtype: type[np.generic]
    opset: int


_STORED = (
    _StoredType(2, ml_dtypes.int2, 25),
    _StoredType(4, ml_dtypes.int4, 21),
    _StoredType(8, np.int8, 13),
)
_GROUPS_OPSET = 21  # the version that knows scales of groups


def onnx_bits(precision: Precision) -> int:
    """Bits that a weight takes in an ONNX file."""
    return _stored_type(precision.weights).bits if precision.weights else precision.arithmetic.bits


def write_mask(
    network: onnx.ModelProto,
    mask: Mask,
    table: CalibrationTable,
    path: Path,
    *,
    max_weight_bits: int = MAX_WEIGHT_BITS,
    rounding: WeightRounding | None = None,
    properties: Mapping[str, str] | None = None,
) -> None:
    """Write the graph of a mask to ``path``: ``features [batch, n_mels, time]`` to ``embeddings``.

    Quantization is symmetric (zero points are 0), but for inputs whose ranges are found at run time. Integer
    weights are stored in the narrowest of INT2, INT4 and INT8 that holds them, with a scale for each output
    channel or for each group of input channels.

    Args:
        network: What :func:`speakerquant.graph.export.export_network` made; it is not changed.
        mask: The precision of every layer.
        table: Ranges of the layers' inputs and weights.
        path: File to write.
        max_weight_bits: Most bits of integer weights.
        rounding: How weights in groups become integers; none is :class:`Rounding`'s default.
        properties: Written as the file's metadata properties, beside the number of mel bands.

    Raises:
        UserError: the table does not fit the network, or ``path`` cannot be written.
    """
    model = apply_mask(network, mask, table, max_weight_bits, rounding)
    n_mels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    helper.set_model_props(model, {"n_mels": str(n_mels), **(properties or {})})
    with atomic_path(path) as part:
        onnx.save(model, part)


def apply_mask(
    network: onnx.ModelProto,
    mask: Mask,
    table: CalibrationTable,
    max_weight_bits: int = MAX_WEIGHT_BITS,
    rounding: WeightRounding | None = None,
) -> onnx.ModelProto:
    """The graph of a mask; arguments and errors as for :func:`write_mask`."""
    model = onnx.ModelProto()
    model.CopyFrom(with_opset(network, opset_of(mask)))
    graph = model.graph
    places = _quantizers(graph)
    editing = _Editing(graph)
    for layer, chosen in mask.layers.items():
        precision = chosen.within(max_weight_bits)
        editing.set_input(layer, places[layer], precision, table)
        editing.set_weight(layer, places[layer], precision, table, rounding or Rounding())
    editing.finish()
    weights_alone = [layer for layer in layer_nodes(graph) if layer.has_integer_weights_only]
    multiply_batch_normalisations_into_scales(graph, weights_alone)
    convolve_constants_once(graph)
    round_frames(
        graph,
        {
            layer
            for layer, precision in mask.layers.items()
            if rounds_frames(precision, places[layer].geometry)
        },
    )
    half = {layer for layer, precision in mask.layers.items() if precision.arithmetic is FloatType.float16}
    compute_in_half(graph, half)
    del graph.value_info[:]  # shapes of tensors that the mask may have removed
    return model


def opset_of(mask: Mask) -> int:
    """The version of ONNX's operators that a mask's weights need; 0 if any will do."""
    return max((_opset(each.weights) for each in mask.layers.values() if each.weights), default=0)


def with_opset(network: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A network in a version of ONNX's operators; itself, if it has that or a later one."""
    if opset <= network.opset_import[0].version:
        return network
    converted = convert_version(network, opset)
    # Older runtimes refuse more.
    converted.ir_version = helper.find_min_ir_version_for(converted.opset_import)
    return converted


@dataclass(frozen=True)
class _Quantizers:
    """The Q/DQ nodes of one layer, by what they quantize: ``input`` or ``weight``; and what it computes."""

    geometry: LayerGeometry
    quantize: Mapping[str, onnx.NodeProto]
    dequantize: Mapping[str, onnx.NodeProto]


def _quantizers(graph: onnx.GraphProto) -> dict[str, _Quantizers]:
    """The Q/DQ nodes by layer."""
    named = {node.name: node for node in graph.node}
    stored = constants_of(graph)
    found: dict[str, _Quantizers] = {}
    for node in graph.node:
        layer = node.name.removesuffix(f"/{node.op_type}")
        if node.op_type in LAYERS and f"{layer}/weight/QuantizeLinear" in named:
            quantize, dequantize = (
                {what: named[f"{layer}/{what}/{kind}"] for what in ("input", "weight")}
                for kind in ("QuantizeLinear", "DequantizeLinear")
            )
            geometry = geometry_of(node, stored[quantize["weight"].input[0]])
            found[layer] = _Quantizers(geometry, quantize, dequantize)
    return found


def _stored_type(weights: WeightFormat) -> _StoredType:
    """The narrowest type that holds them."""
    return next(each for each in _STORED if weights.bits <= each.bits)


def _opset(weights: WeightFormat) -> int:
    """The version of ONNX's operators that they need."""
    return max(_stored_type(weights).opset, _GROUPS_OPSET if weights.group_size else 0)


def _by_ranges(
    layer: str, weight: npt.NDArray[np.float32], stored: WeightFormat, table: CalibrationTable
) -> IntegerWeights:
    """The nearest integers of the scales that follow from the weights' ranges."""
    scales = weight_scales(layer, weight, table, stored.bounds[1])
    codes = np.rint(weight / scales.reshape(-1, *[1] * (weight.ndim - 1))).clip(*stored.bounds)
    return IntegerWeights(codes.astype(np.int8), scales)


class _Editing:
    """Changes a graph in place; what nodes read is renamed once, at the end."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._renamed: dict[str, str] = {}
        self._add(_ZERO_POINT, np.zeros((), np.int8))

    def set_input(
        self, layer: str, nodes: _Quantizers, precision: Precision, table: CalibrationTable
    ) -> None:
        quantize, dequantize = nodes.quantize["input"], nodes.dequantize["input"]
        if not precision.quantizes_input:
            self._renamed[dequantize.output[0]] = quantize.input[0]
            return
        if precision.input_range is InputRange.recording:
            quantize.op_type = "DynamicQuantizeLinear"
            del quantize.input[1:], quantize.attribute[:]
            quantize.output[1:] = [f"{quantize.output[0]}/scale", f"{quantize.output[0]}/zero_point"]
            dequantize.input[:] = quantize.output
            return
        assert precision.input_bits is not None
        scale = self._add(f"{layer}.input_scale", np.asarray(input_scale(layer, precision.input_bits, table)))
        quantize.input[1:] = [scale, _ZERO_POINT]
        dequantize.input[1:] = [scale, _ZERO_POINT]

    def set_weight(
        self,
        layer: str,
        nodes: _Quantizers,
        precision: Precision,
        table: CalibrationTable,
        rounding: WeightRounding,
    ) -> None:
        quantize, dequantize = nodes.quantize["weight"], nodes.dequantize["weight"]
        stored = precision.weights
        if stored is None:
            self._renamed[dequantize.output[0]] = quantize.input[0]
            return
        weight = numpy_helper.to_array(self._tensors[quantize.input[0]])
        if stored.is_fitted:
            integers = rounding.integers(layer, weight, nodes.geometry, stored)
        else:
            integers = _by_ranges(layer, weight, stored, table)
        dtype, length = _stored_type(stored).dtype, integers.group_length
        dequantize.input[:] = [
            self._add(f"{layer}.weight_quantized", integers.codes.astype(dtype)),
            self._add(f"{layer}.weight_scales", integers.scales),
        ]
        if dtype is np.int8 and length is None:
            zero_points = np.zeros(len(integers.scales), np.int8)
            dequantize.input.append(self._add(f"{layer}.weight_zero_points", zero_points))
        del dequantize.attribute[:]
        dequantize.attribute.append(helper.make_attribute("axis", 0 if length is None else 1))
        if length is not None:
            dequantize.attribute.append(helper.make_attribute("block_size", length))

    def finish(self) -> None:
        for node in self._graph.node:
            node.input[:] = [follow(self._renamed, name) for name in node.input]
        remove_unused(self._graph)

    def _add(self, name: str, value: npt.NDArray[np.generic]) -> str:
        return store(self._graph, name, value)
