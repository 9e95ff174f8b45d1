"""INT8 layers as products of integers, which ONNX Runtime computes as such.

Its CPU provider turns dequantized weights and inputs back to FP32 and convolves these, unless the output is
rounded, too. Products of unsigned bytes are exact on every processor. Those of unsigned with signed ones are
faster, most with VNNI, without which they add pairs in 16 bits; a signed first factor is slow. The second one
is a matrix product's weight, and a convolution's input. Depthwise convolutions before a rounding, of which it
makes such products itself, are summed in 32 bits.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from speakerquant.architectures.layers import LayerGeometry, LayerKind
from speakerquant.graph.batch_normalisation import multiply_batch_normalisations_into_scales
from speakerquant.graph.editing import (
    Makers,
    constants_of,
    is_blocked,
    makers_of,
    remove_unused,
    replace_nodes,
    store,
)
from speakerquant.graph.layer_nodes import LayerNode, convolution_attributes, layer_nodes

_DYNAMIC = "DynamicQuantizeLinear"
_SHIFT = 128  # between signed and unsigned bytes
_SECOND_ZERO_POINT = {"MatMulInteger": 3, "ConvInteger": 2}
"""By operation of integers, the place of the zero point of its second factor."""

_SEVEN_BITS = 63  # the largest such weight: two products of it and a byte fit 16 bits
_TIME_LAST = [0, 2, 1]


def compute_in_integers(model: onnx.ModelProto) -> None:
    """Change, in place, a network that :func:`speakerquant.graph.masking.write_mask` wrote.

    The function stays as it is, but for the order in which FP32 rounds. Depthwise convolutions stay, too.
    """
    graph = model.graph
    multiply_batch_normalisations_into_scales(graph, _layers_of_bytes(graph))
    makers, constants = makers_of(graph), constants_of(graph)
    layers = {layer.node.output[0]: layer for layer in _layers_of_bytes(graph)}
    for channels in {layer.geometry.out_channels for layer in layers.values()}:
        for name, value in zip(_unit(channels), (0, 1), strict=True):
            store(graph, name, np.full(channels, value, np.float32))
    nodes = [
        each
        for node in graph.node
        for each in (
            _in_integers(layers[node.output[0]], graph, makers, constants)
            if node.output[0] in layers
            else [node]
        )
    ]
    replace_nodes(graph, nodes)
    _sign_weights_of_products(graph, adds_in_32_bits=False)
    remove_unused(graph)


def sign_second_factors(model: onnx.ModelProto, *, adds_in_32_bits: bool) -> None:
    """Change, in place, products that :func:`compute_in_integers` wrote to ones with signed second factors.

    ONNX Runtime convolves signed inputs from 1.24 on, so this is not for files that others run.

    Args:
        model: The network.
        adds_in_32_bits: Whether the processor adds all products so; else only those with weights of 7 bits
            are changed.
    """
    _sign_weights_of_products(model.graph, adds_in_32_bits)
    _sign_inputs_of_convolutions(model.graph, adds_in_32_bits)
    remove_unused(model.graph)


def has_integer_products(model: onnx.ModelProto) -> bool:
    """Whether :func:`compute_in_integers` has made any."""
    return any(node.op_type in _SECOND_ZERO_POINT for node in model.graph.node)


def finds_ranges(model: onnx.ModelProto) -> bool:
    """Whether the range of any input is found at run time, over all recordings of a request."""
    return any(node.op_type.startswith("DynamicQuantize") for node in model.graph.node)


def _sign_weights_of_products(graph: onnx.GraphProto, adds_in_32_bits: bool) -> None:
    for node, codes in _exact_when_signed("MatMulInteger", graph, adds_in_32_bits):
        named = f"{node.output[0]}/signed"
        node.input[1] = store(graph, f"{named}/weight", codes.astype(np.int8))
        node.input[3] = store(graph, f"{named}/zero_point", np.int8(0))


def _sign_inputs_of_convolutions(graph: onnx.GraphProto, adds_in_32_bits: bool) -> None:
    makers = makers_of(graph)
    signed: dict[str, list[onnx.NodeProto]] = {}
    for node, codes in _exact_when_signed("ConvInteger", graph, adds_in_32_bits):
        quantize = makers[node.input[0]]
        if quantize.op_type not in ("QuantizeLinear", _DYNAMIC):
            continue  # ONNX Runtime moves some up
        if node.input[0] not in signed:
            signed[node.input[0]] = _signed(quantize, graph)
        bytes_ = signed[node.input[0]][-1]
        named = f"{node.output[0]}/signed"
        shift = np.uint8(_SEVEN_BITS + 1 if _has_seven_bits(codes) else _SHIFT)
        weight = store(graph, f"{named}/weight", (codes + shift).astype(np.uint8))
        node.input[:] = [*bytes_.output, weight, bytes_.input[2], store(graph, f"{named}/shift", shift)]
    replace_nodes(graph, [each for node in graph.node for each in (node, *signed.get(node.output[0], ()))])


def _signed(quantize: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """What rounds the same input to signed bytes, last, after what makes their zero point, if any does."""
    unsigned, *found = quantize.output
    scale, zero_point = found or (quantize.input[1], None)
    signed, zero = f"{unsigned}/signed", f"{unsigned}/zero"
    bytes_ = helper.make_node("QuantizeLinear", [quantize.input[0], scale, zero], [signed])
    if zero_point is None:
        store(graph, zero, np.int8(0))
        return [bytes_]
    value = f"{zero}/value"
    shift = [store(graph, f"{zero}/one", np.float32(1)), store(graph, f"{zero}/shift", np.int8(-_SHIFT))]
    return [
        helper.make_node("Cast", [zero_point], [value], to=onnx.TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", [value, *shift], [zero]),
        bytes_,
    ]


def _exact_when_signed(
    operation: str, graph: onnx.GraphProto, adds_in_32_bits: bool
) -> Iterator[tuple[onnx.NodeProto, npt.NDArray[np.int16]]]:
    """The products of an operation that stay exact with a signed second factor, and their weights' codes."""
    makers, constants = makers_of(graph), constants_of(graph)
    for node in graph.node:
        if node.op_type != operation:
            continue
        second = node.input[_SECOND_ZERO_POINT[operation]]
        is_unsigned = (
            constants[second].data_type == onnx.TensorProto.UINT8
            if second in constants
            else makers[second].op_type == _DYNAMIC
        )
        weight, zero_point = (numpy_helper.to_array(constants[name]) for name in node.input[1::2])
        codes = weight.astype(np.int16) - zero_point
        if is_unsigned and (adds_in_32_bits or _has_seven_bits(codes)):
            yield node, codes


def _has_seven_bits(codes: npt.NDArray[np.int16]) -> bool:
    return bool(np.abs(codes).max() <= _SEVEN_BITS)


def _layers_of_bytes(graph: onnx.GraphProto) -> list[LayerNode]:
    constants = constants_of(graph)
    return [layer for layer in layer_nodes(graph) if _is_of_bytes(layer, constants)]


def _is_of_bytes(layer: LayerNode, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether inputs and weights are bytes, with a scale for each output channel, made of all the input's."""
    dequantize = layer.dequantize_weight
    return (
        layer.rounds_input
        and not _is_depthwise(layer.geometry)
        and layer.weight.data_type == onnx.TensorProto.INT8
        and dequantize is not None
        and not is_blocked(dequantize)
        and dequantize.input[1] in constants
    )


def _in_integers(
    layer: LayerNode,
    graph: onnx.GraphProto,
    makers: Makers,
    constants: Mapping[str, onnx.TensorProto],
) -> Iterator[onnx.NodeProto]:
    """A layer, from its input before that is rounded; from bytes, where their range is found at run time."""
    node, geometry, dequantize = layer.node, layer.geometry, layer.dequantize_weight
    assert dequantize is not None
    [output] = node.output
    quantize = makers[makers[node.input[0]].input[0]]
    is_dynamic = quantize.op_type == _DYNAMIC
    is_product, is_sequence = _is_product(geometry), geometry.kind is LayerKind.conv1d

    def named(kind: str) -> str:
        return f"{output}/{kind}"

    def constant(kind: str, value: npt.ArrayLike) -> str:
        return store(graph, named(kind), value)

    def value(name: str) -> npt.NDArray[np.float32]:
        return numpy_helper.to_array(constants[name])

    shift = constant("shift", np.uint8(_SHIFT))
    weight = (numpy_helper.to_array(layer.weight).astype(np.int16) + _SHIFT).astype(np.uint8)
    scales, sums = value(dequantize.input[1]), named("sums")
    if is_dynamic:
        bytes_, input_scale, zero_point = quantize.output
    else:
        bytes_, input_scale, zero_point = named("bytes"), quantize.input[1], shift
        scales = scales * value(input_scale)
        yield helper.make_node("QuantizeLinear", [quantize.input[0], input_scale, zero_point], [bytes_])
    if is_product:
        if is_sequence:
            sums = named("sums_by_frame")
            yield helper.make_node("Transpose", [bytes_], [named("bytes_by_frame")], perm=_TIME_LAST)
            bytes_ = named("bytes_by_frame")
        columns = constant("weight", np.ascontiguousarray(weight.reshape(len(weight), -1).T))
        yield helper.make_node("MatMulInteger", [bytes_, columns, zero_point, shift], [sums])
        if is_sequence:
            yield helper.make_node("Transpose", [sums], [named("sums")], perm=_TIME_LAST)
    else:
        yield helper.make_node(
            "ConvInteger",
            [bytes_, constant("weight", weight), zero_point, shift],
            [sums],
            **convolution_attributes(geometry),
        )
    yield helper.make_node("Cast", [named("sums")], [named("values")], to=onnx.TensorProto.FLOAT)
    biases = [value(name) for name in node.input[2:]]
    # In one operation, where two would read and write all values twice.
    is_one = bool(biases) and geometry.kind is not LayerKind.linear
    factors = constant("scales", scales if is_one else scales.reshape(-1, *[1] * geometry.num_axes))
    if is_dynamic:
        yield helper.make_node("Mul", [factors, input_scale], [named("factors")])
        factors = named("factors")
    if is_one:
        affine = [factors, constant("bias", biases[0]), *_unit(len(scales))]
        yield helper.make_node("BatchNormalization", [named("values"), *affine], [output], epsilon=0.0)
        return
    scaled = named("scaled") if biases else output
    yield helper.make_node("Mul", [named("values"), factors], [scaled])
    for bias in biases:
        yield helper.make_node("Add", [scaled, constant("bias", bias)], [output])


def _unit(channels: int) -> tuple[str, str]:
    """Names of the mean 0 and the variance 1, which layers of so many channels share."""
    return f"mean_of_{channels}", f"variance_of_{channels}"


def _is_depthwise(geometry: LayerGeometry) -> bool:
    """Whether each output channel sees an input channel of its own."""
    return 1 < geometry.groups == geometry.in_channels == geometry.out_channels


def _is_product(geometry: LayerGeometry) -> bool:
    """Whether a layer is a product of matrices: a linear one, or a convolution of one tap at every frame."""
    is_sequence = geometry.kind is LayerKind.conv1d
    return geometry.kind is LayerKind.linear or (is_sequence and geometry.is_pointwise)
