"""Changes to an exported ONNX graph that make it smaller or faster and leave what it computes."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
LAYERS = ("Conv", "Gemm")
"""Operations that have weights."""

_FLOAT16, _FLOAT32 = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
Makers = Mapping[str, onnx.NodeProto]
"""The node that makes each tensor."""

Readers = Mapping[str, Sequence[onnx.NodeProto]]
"""The nodes that read each tensor, in their order, once for every time."""


def read_shared_weights_directly(graph: onnx.GraphProto) -> None:
    """Remove the nodes that only rename weights: the exporter stores weights of equal values once."""
    renamed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    for node in graph.node:
        node.input[:] = [follow(renamed, name) for name in node.input]
    remove_unused(graph)


def store_padding(model: onnx.ModelProto) -> None:
    """Put numbers where the exporter computes each padding by a dozen operations on constants."""
    graph = model.graph
    for node in graph.node:
        if node.op_type != "Pad":
            continue
        amounts = helper.make_tensor_value_info(node.input[1], onnx.TensorProto.INT64, None)
        nodes = _used_nodes(graph.node, {amounts.name})
        constant = helper.make_graph(nodes, "padding", [], [amounts])
        [value] = ReferenceEvaluator(helper.make_model(constant, opset_imports=model.opset_import)).run(
            None, {}
        )
        node.input[1] = store(graph, f"{node.output[0]}/padding", value)
    remove_unused(graph)


def convolve_constants_once(graph: onnx.GraphProto) -> None:
    """Convolve what is the same in every frame once, not once per frame.

    The attention looks at each frame beside mean and deviation of the whole recording. A convolution of
    kernel 1 over their concatenation is the sum of one per part, and what was expanded along time needs
    one frame only. Convolutions over other concatenations stay as they are.
    """
    widths = {value.name: _width(value) for value in graph.value_info}
    makers = makers_of(graph)
    constants = constants_of(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        chain = _quantizers_behind_concatenation(node, makers)
        if (
            chain
            and _repeats_equal_parts(chain[0], makers, widths)
            and _scales_fit_parts(node, len(chain[0].input), makers, constants)
        ):
            nodes.extend(_by_parts(node, *chain, makers, constants, graph))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    remove_unused(graph)


def compute_in_half(graph: onnx.GraphProto, layers: Collection[str]) -> None:
    """Compute layers, given by name, in FP16 between casts, with their weights stored so."""
    if not layers:
        return
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    beginnings = tuple(f"{layer}/" for layer in layers)
    for node in graph.node:
        if node.op_type not in LAYERS or not node.name.startswith(beginnings):
            nodes.append(node)
            continue
        source, *constants = node.input
        [output] = node.output
        for name in constants:
            if f"{name}/half" not in weights:
                half = numpy_helper.to_array(weights[name]).astype(np.float16)
                weights[f"{name}/half"] = numpy_helper.from_array(half, f"{name}/half")
                graph.initializer.append(weights[f"{name}/half"])
        rounded, computed = f"{node.name}/input_half", f"{node.name}/output_half"
        node.input[:] = [rounded, *(f"{name}/half" for name in constants)]
        node.output[:] = [computed]
        nodes += [
            helper.make_node(
                "Cast", [source], [rounded], f"{node.name}/to_half", to=onnx.TensorProto.FLOAT16
            ),
            node,
            helper.make_node(
                "Cast", [computed], [output], f"{node.name}/to_float", to=onnx.TensorProto.FLOAT
            ),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    remove_unused(graph)


def remove_unused(graph: onnx.GraphProto) -> None:
    """Leave the nodes and initializers that the outputs are computed from."""
    kept = _used_nodes(graph.node, {output.name for output in graph.output})
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    for index in reversed(range(len(graph.initializer))):  # removing by value compares weights
        if graph.initializer[index].name not in used:
            del graph.initializer[index]


def makers_of(graph: onnx.GraphProto) -> Makers:
    """The node that makes each tensor, by the tensor's name."""
    return {name: node for node in graph.node for name in node.output}


def readers_of(graph: onnx.GraphProto) -> Readers:
    """The nodes that read each tensor, by the tensor's name; a tensor that none reads is missing."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def constants_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The tensors that are stored in the graph, by name."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    return stored | {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}


def store(graph: onnx.GraphProto, name: str, value: npt.ArrayLike) -> str:
    """Add a constant to a graph; its name."""
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def follow(renamed: Mapping[str, str], name: str) -> str:
    """What a tensor is called in the end, after all renamings that begin at ``name``."""
    while name in renamed:
        name = renamed[name]
    return name


def _quantizers_behind_concatenation(
    node: onnx.NodeProto, makers: Makers
) -> tuple[onnx.NodeProto, list[onnx.NodeProto]] | None:
    """The concatenation that a convolution of kernel 1 is of, and what quantizes it, if anything does."""
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type != "Conv" or attributes.get("kernel_shape") != [1]:
        return None
    if attributes.get("group", 1) != 1 or attributes.get("strides", [1]) != [1]:
        return None
    quantizers: list[onnx.NodeProto] = []
    maker = makers.get(node.input[0])
    while maker is not None and maker.op_type in _QUANTIZERS:
        quantizers.insert(0, maker)
        maker = makers.get(maker.input[0])
    return (maker, quantizers) if maker is not None and maker.op_type == "Concat" else None


def _repeats_equal_parts(
    concatenation: onnx.NodeProto, makers: Makers, widths: Mapping[str, int | None]
) -> bool:
    """Whether equally wide parts are concatenated along the channels, one of them expanded along time."""
    expanded = {
        name: makers[name].input[0]
        for name in concatenation.input
        if name in makers and makers[name].op_type == "Expand"
    }
    parts = {widths.get(expanded.get(name, name)) for name in concatenation.input}
    along_channels = helper.get_attribute_value(concatenation.attribute[0]) == 1
    return along_channels and bool(expanded) and len(parts) == 1 and None not in parts


def _width(value: onnx.ValueInfoProto) -> int | None:
    """Number of channels of a tensor ``[batch, channels, ...]``; none if it is not known."""
    shape = value.type.tensor_type.shape.dim
    return shape[1].dim_value or None if len(shape) > 1 else None


def _by_parts(
    convolution: onnx.NodeProto,
    concatenation: onnx.NodeProto,
    quantizers: Sequence[onnx.NodeProto],
    makers: Makers,
    constants: Mapping[str, onnx.TensorProto],
    graph: onnx.GraphProto,
) -> Iterator[onnx.NodeProto]:
    """The convolution as a sum of one per part of the concatenation; all parts are equally wide."""
    _, weight, *bias = convolution.input
    dequantizers = [makers[weight]] if weight in makers else []
    stored = dequantizers[0].input[0] if dequantizers else weight

    def parts_of(name: str) -> Iterator[str]:
        """The constant's parts along the input channels, stored under names of their own."""
        parts = np.split(numpy_helper.to_array(constants[name]), len(concatenation.input), axis=1)
        for index, part in enumerate(parts):
            yield store(graph, f"{name}/{index}", part)

    kernels = [*parts_of(stored)]
    scales = [*parts_of(dequantizers[0].input[1])] if any(map(is_blocked, dequantizers)) else []
    outputs = []
    for index, (source, name) in enumerate(zip(concatenation.input, kernels, strict=True)):
        maker = makers.get(source)
        if maker is not None and maker.op_type == "Expand":
            source = maker.input[0]
        for quantizer in quantizers:
            yield (copied := _copy(quantizer, index, [source, *quantizer.input[1:]]))
            source = copied.output[0]
        for dequantizer in dequantizers:
            inputs = [scales[index]] if scales else dequantizer.input[1:]
            yield (copied := _copy(dequantizer, index, [name, *inputs]))
            name = copied.output[0]
        yield (copied := _copy(convolution, index, [source, name, *(bias if index == 0 else [])]))
        outputs.append(copied.output[0])
    yield helper.make_node("Sum", outputs, convolution.output, f"{convolution.name}/Sum")


def is_blocked(dequantizer: onnx.NodeProto) -> bool:
    """Whether groups of input channels have scales of their own."""
    return any(attribute.name == "block_size" for attribute in dequantizer.attribute)


def _scales_fit_parts(
    convolution: onnx.NodeProto, num_parts: int, makers: Makers, constants: Mapping[str, onnx.TensorProto]
) -> bool:
    """Whether no group of input channels lies in two parts."""
    dequantizer = makers.get(convolution.input[1])
    if dequantizer is None or not is_blocked(dequantizer):
        return True
    return bool(constants[dequantizer.input[1]].dims[1] % num_parts == 0)


def _copy(node: onnx.NodeProto, index: int, inputs: Sequence[str]) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    copied.name = f"{node.name}/{index}"
    copied.input[:] = inputs
    copied.output[:] = [f"{name}/{index}" for name in node.output]
    return copied


def _used_nodes(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Those of ``nodes``, in their order, that the tensors of the ``wanted`` names are computed from."""
    wanted = set(wanted)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
