"""Puts a mask on an exported network: which layers keep their Q/DQ nodes, with which scales and weights."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.version_converter import convert_version

from speakerquant.files import atomic_path
from speakerquant.graph.batch_normalisation import multiply_normalisations_into_scales
from speakerquant.graph.passes import compute_in_half, convolve_constants_once, follow, remove_unused, store
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FloatType, Precision
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding
from speakerquant.quantization.scales import MAX_WEIGHT_BITS, input_scale, weight_bound, weight_scales

# How an exported network names the nodes of a layer's quantizers.
_QUANTIZER = re.compile(r"(.+)/(input|weight)/(Quantize|Dequantize)Linear")
_ZERO_POINT = "zero_point"
_PACKED_IR_VERSION = 11  # understood by current engines, and recent enough for the packed types


@dataclass(frozen=True)
class _PackedType:
    """How ONNX stores integers of few bits, and since which version of its operators."""

    dtype: type[np.generic]
    opset: int


_PACKED = {4: _PackedType(ml_dtypes.int4, 21), 2: _PackedType(ml_dtypes.int2, 25)}


def write_mask(
    network: onnx.ModelProto,
    mask: Mask,
    table: CalibrationTable,
    path: Path,
    *,
    max_weight_bits: int = MAX_WEIGHT_BITS,
    rounding: Rounding | None = None,
    properties: Mapping[str, str] | None = None,
) -> None:
    """Write the graph of a mask to ``path``: ``features [batch, n_mels, time]`` to ``embeddings``.

    Quantization is symmetric (zero points are 0). Integer weights are stored as INT8 with a scale for each
    output channel, or packed as INT4 or INT2 with a scale for each group of input channels.

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
    rounding: Rounding | None = None,
) -> onnx.ModelProto:
    """The graph of a mask; arguments and errors as for :func:`write_mask`."""
    model = onnx.ModelProto()
    model.CopyFrom(network)
    packed = {each.bits_per_weight for each in mask.layers.values() if each.has_grouped_weights}
    if packed:
        model = convert_version(model, max(_PACKED[bits].opset for bits in packed))
        model.ir_version = _PACKED_IR_VERSION
    graph = model.graph
    places = _quantizers(graph)
    editing = _Editing(graph)
    for layer, precision in mask.layers.items():
        editing.set_input(layer, places[layer], precision, table)
        if precision.has_grouped_weights:
            bits = precision.bits_per_weight
            editing.set_packed_weight(layer, places[layer], bits, rounding or Rounding())
        else:
            editing.set_weight(layer, places[layer], precision, table, max_weight_bits)
    editing.finish()
    multiply_normalisations_into_scales(graph)
    convolve_constants_once(graph)
    half = {layer for layer, precision in mask.layers.items() if precision.arithmetic is FloatType.float16}
    compute_in_half(graph, half)
    del graph.value_info[:]  # shapes of tensors that the mask may have removed
    return model


@dataclass(frozen=True)
class _Quantizers:
    """The Q/DQ nodes of one layer, by what they quantize: ``input`` or ``weight``."""

    quantize: dict[str, onnx.NodeProto] = field(default_factory=dict)
    dequantize: dict[str, onnx.NodeProto] = field(default_factory=dict)


def _quantizers(graph: onnx.GraphProto) -> dict[str, _Quantizers]:
    """The Q/DQ nodes by layer."""
    found: dict[str, _Quantizers] = {}
    for node in graph.node:
        if match := _QUANTIZER.fullmatch(node.name):
            layer, what, kind = match.groups()
            nodes = found.setdefault(layer, _Quantizers())
            (nodes.quantize if kind == "Quantize" else nodes.dequantize)[what] = node
    return found


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
        if precision.input_bits is None:
            self._renamed[dequantize.output[0]] = quantize.input[0]
            return
        scale = self._add(f"{layer}.input_scale", np.asarray(input_scale(layer, precision.input_bits, table)))
        quantize.input[1:] = [scale, _ZERO_POINT]
        dequantize.input[1:] = [scale, _ZERO_POINT]

    def set_weight(
        self,
        layer: str,
        nodes: _Quantizers,
        precision: Precision,
        table: CalibrationTable,
        max_weight_bits: int,
    ) -> None:
        quantize, dequantize = nodes.quantize["weight"], nodes.dequantize["weight"]
        if precision.weights is None:
            self._renamed[dequantize.output[0]] = quantize.input[0]
            return
        weight = numpy_helper.to_array(self._tensors[quantize.input[0]])
        bound = weight_bound(precision.weights, max_weight_bits)
        scales = weight_scales(layer, weight, table, bound)
        steps = np.rint(weight / scales.reshape(-1, *(1 for _ in weight.shape[1:]))).clip(-bound, bound)
        dequantize.input[:] = [
            self._add(f"{layer}.weight_quantized", steps.astype(np.int8)),
            self._add(f"{layer}.weight_scales", scales),
            self._add(f"{layer}.weight_zero_points", np.zeros(len(scales), np.int8)),
        ]

    def set_packed_weight(self, layer: str, nodes: _Quantizers, bits: int, rounding: Rounding) -> None:
        quantize, dequantize = nodes.quantize["weight"], nodes.dequantize["weight"]
        weight = numpy_helper.to_array(self._tensors[quantize.input[0]])
        integers = rounding.integers(layer, weight, bits)
        dequantize.input[:] = [
            self._add(f"{layer}.weight_quantized", integers.steps.astype(_PACKED[bits].dtype)),
            self._add(f"{layer}.weight_scales", integers.scales),
        ]
        del dequantize.attribute[:]
        dequantize.attribute.append(helper.make_attribute("axis", 1))
        dequantize.attribute.append(helper.make_attribute("block_size", integers.group_length))

    def finish(self) -> None:
        for node in self._graph.node:
            node.input[:] = [follow(self._renamed, name) for name in node.input]
        remove_unused(self._graph)

    def _add(self, name: str, value: npt.NDArray[np.generic]) -> str:
        return store(self._graph, name, value)
