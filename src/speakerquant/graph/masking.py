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
from speakerquant.graph.layer_nodes import LAYERS, geometry_of
from speakerquant.graph.passes import compute_in_half
from speakerquant.graph.repeated_frames import convolve_constants_once
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FloatType, Precision, WeightFormat
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding, WeightRounding
from speakerquant.quantization.scales import MAX_WEIGHT_BITS, input_scale, weight_bound, weight_scales

_ZERO_POINT = "zero_point"


@dataclass(frozen=True)
class _StoredType:
    """A type of integer weights in ONNX, and the version of its operators from which on they have groups."""

    bits: int
    dtype: type[np.generic]
    opset: int


_STORED = (
    _StoredType(2, ml_dtypes.int2, 25),
    _StoredType(4, ml_dtypes.int4, 21),
    _StoredType(8, np.int8, 21),
)


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

    Quantization is symmetric (zero points are 0). Integer weights are stored in the narrowest of INT2, INT4
    and INT8 that holds them, with a scale for each output channel or for each group of input channels.

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
    model.CopyFrom(network)
    fitted = [each.weights for each in mask.layers.values() if each.weights and each.has_fitted_scales]
    if fitted:
        model = convert_version(model, max(_stored_type(weights).opset for weights in fitted))
        model.ir_version = helper.find_min_ir_version_for(model.opset_import)  # older runtimes refuse more
    graph = model.graph
    places = _quantizers(graph)
    editing = _Editing(graph)
    for layer, precision in mask.layers.items():
        editing.set_input(layer, places[layer], precision, table)
        if precision.weights is not None and precision.has_fitted_scales:
            editing.set_fitted_weight(layer, places[layer], precision.weights, rounding or Rounding())
        else:
            editing.set_weight(layer, places[layer], precision, table, max_weight_bits)
    editing.finish()
    multiply_batch_normalisations_into_scales(graph)
    convolve_constants_once(graph)
    half = {layer for layer, precision in mask.layers.items() if precision.arithmetic is FloatType.float16}
    compute_in_half(graph, half)
    del graph.value_info[:]  # shapes of tensors that the mask may have removed
    return model


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
        codes = np.rint(weight / scales.reshape(-1, *(1 for _ in weight.shape[1:]))).clip(-bound, bound)
        dequantize.input[:] = [
            self._add(f"{layer}.weight_quantized", codes.astype(np.int8)),
            self._add(f"{layer}.weight_scales", scales),
            self._add(f"{layer}.weight_zero_points", np.zeros(len(scales), np.int8)),
        ]

    def set_fitted_weight(
        self, layer: str, nodes: _Quantizers, stored: WeightFormat, rounding: WeightRounding
    ) -> None:
        quantize, dequantize = nodes.quantize["weight"], nodes.dequantize["weight"]
        weight = numpy_helper.to_array(self._tensors[quantize.input[0]])
        integers = rounding.integers(layer, weight, nodes.geometry, stored)
        dequantize.input[:] = [
            self._add(f"{layer}.weight_quantized", integers.codes.astype(_stored_type(stored).dtype)),
            self._add(f"{layer}.weight_scales", integers.scales),
        ]
        del dequantize.attribute[:]
        if integers.group_length is None:
            dequantize.attribute.append(helper.make_attribute("axis", 0))
        else:
            dequantize.attribute.append(helper.make_attribute("axis", 1))
            dequantize.attribute.append(helper.make_attribute("block_size", integers.group_length))

    def finish(self) -> None:
        for node in self._graph.node:
            node.input[:] = [follow(self._renamed, name) for name in node.input]
        remove_unused(self._graph)

    def _add(self, name: str, value: npt.NDArray[np.generic]) -> str:
        return store(self._graph, name, value)
