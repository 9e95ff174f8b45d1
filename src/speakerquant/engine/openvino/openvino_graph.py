"""Changes to a network's graph without which OpenVINO computes it wrongly or slowly.

Each leaves the function as it is.
"""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper
from openvino import Input, Model, Node, Output
from openvino import opset13 as ops

from speakerquant.architectures.layers import LayerKind
from speakerquant.graph.editing import constants_of
from speakerquant.graph.layer_nodes import layer_nodes

_TIME_LAST = np.array([0, 2, 1], np.int64)
_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
_JOINED_BY_QUANTIZERS = ("Add", "Divide", "Multiply", "Relu", "Subtract")
_BY_CHANNELS = ("Add", "BatchNormInference", "Divide", "Multiply", "PRelu", "Subtract")
BY_ELEMENTS = (
    *("Abs", "Add", "Clamp", "Divide", "Elu", "Exp", "Gelu", "HSigmoid", "HSwish", "Log", "Maximum"),
    *("Minimum", "Mish", "Multiply", "Negative", "Power", "Relu", "Sigmoid", "SoftPlus", "Sqrt"),
    *("Subtract", "Swish", "Tanh"),
)
"""What computes every value from those at its place, wherever channels are."""
_JOINED_BY_REDUCTIONS = (*BY_ELEMENTS, "BatchNormInference", "Erf", "PRelu")


def adapt(model: Model, network: onnx.ModelProto, *, matrix_products: bool) -> None:
    """Change, in place, a network read from ONNX so that OpenVINO computes what it says, and fast.

    Args:
        model: The network.
        network: The same in ONNX, whose names the model keeps.
        matrix_products: Run FP32 convolutions of kernel 1 as matrix products, which takes two thirds of the
            time where there is no AVX-512, and 1.2 times as long where there is.
    """
    nodes = model.get_ordered_ops()
    _keep_channels_from_reductions(nodes)
    if any(is_of_kind(node, "FakeQuantize") for node in nodes):
        _stop_low_precision_propagation(nodes)
        _give_every_rounding_layer_a_bias(nodes, network)
    if matrix_products:
        _pointwise_convolutions_to_matrix_products(nodes, network)


def layer_name(node: Node) -> str:
    """What the node of a layer is called in ONNX: one with a bias becomes two operations here."""
    return str(node.get_friendly_name().removesuffix("/WithoutBiases"))


def is_of_kind(node: Node, *operations: str) -> bool:
    """Whether a node is one of these operations."""
    return node.get_type_name() in operations


def shorten_names(model: Model) -> None:
    """Number operations and leave values nameless, in place: an engine repeats the names of what it fuses."""
    kept = {name for end in (*model.inputs, *model.outputs) for name in end.get_names()}
    for number, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(str(number))
        for output in node.outputs():
            if kept.isdisjoint(output.get_names()):
                output.get_tensor().set_names(set())


def read_instead(former: Output, output: Output) -> None:
    """Give all readers of a former output another one."""
    for reader in former.get_target_inputs():
        reader.replace_source_output(output)


def insert_behind(output: Output, change: Callable[[Output], Output]) -> None:
    """Give all readers of an operation's output what is computed from that."""
    readers = output.get_target_inputs()
    changed = change(output)
    for reader in readers:
        reader.replace_source_output(changed)


def _stop_low_precision_propagation(nodes: list[Node]) -> None:
    """Keep low-precision propagation from where OpenVINO (2026.4) gets it wrong.

    It moves a quantizer up through a concatenation and the operations by elements behind that, and what a
    normalisation adds down through an average of maps padded with zeros. What it moves down through a
    reduction is then fused to that (:func:`_keep_channels_from_reductions`). What is quantized behind a
    maximum or minimum over time is wrong. A factor before an instance or layer normalisation is left out, as
    if nothing were added to variances.
    """
    for node in nodes:
        if is_of_kind(node, "ReduceMax", "ReduceMin"):
            insert_behind(node.output(0), stop)
        if (
            (is_of_kind(node, "FakeQuantize") and is_of_kind(_origin(node, _JOINED_BY_QUANTIZERS), "Concat"))
            or (is_of_kind(node, "AvgPool") and _pools_padding(node))
            or is_of_kind(node, "MVN")
            or (is_of_kind(node, *_REDUCTIONS) and node.get_output_element_type(0).is_real())
        ):
            stop_before(node)


def _keep_channels_from_reductions(nodes: list[Node]) -> None:
    """Keep operations with a value for each channel from being fused to a reduction before them.

    In a batch, all recordings but the first would get the values of other channels (OpenVINO 2026.4, and in
    FP32 too).
    """
    for node in nodes:
        if is_of_kind(node, *_BY_CHANNELS) and is_of_kind(_origin(node, _JOINED_BY_REDUCTIONS), *_REDUCTIONS):
            stop_before(node)


def _give_every_rounding_layer_a_bias(nodes: list[Node], network: onnx.ModelProto) -> None:
    """Add next to nothing to what layers make that round their inputs and have no bias, or one of zeros.

    Low-precision propagation gives each reader of such a layer scales of its own, and OpenVINO (2026.4) would
    fuse those of one reader to the layer, for all of them.
    """

    def is_zero(stored: onnx.TensorProto) -> bool:
        return not numpy_helper.to_array(stored).any()

    constants = constants_of(network.graph)
    without = {
        layer.node.name
        for layer in layer_nodes(network.graph)
        if layer.rounds_input
        and all(name in constants and is_zero(constants[name]) for name in layer.node.input[2:])
    }
    next_to_nothing = ops.constant(np.finfo(np.float32).tiny)
    for node in nodes:
        if is_of_kind(node, *_LAYERS) and layer_name(node) in without:
            insert_behind(node.output(0), lambda output: ops.add(output, next_to_nothing).output(0))


def _origin(node: Node, passed: tuple[str, ...]) -> Node:
    """What a node's input is computed from, before the operations of these kinds that lie between."""
    source = node
    while len(inputs := _computed_inputs(source)) == 1:
        source = inputs[0].get_source_output().get_node()
        if not is_of_kind(source, *passed):
            break
    return source


def _computed_inputs(node: Node) -> list[Input]:
    return [each for each in node.inputs() if not is_of_kind(each.get_source_output().get_node(), "Constant")]


def _pools_padding(pooling: Node) -> bool:
    attributes = pooling.get_attributes()
    return not attributes["exclude-pad"] and any((*attributes["pads_begin"], *attributes["pads_end"]))


def stop_before(node: Node) -> None:
    """Put such an operation before what a node is computed from."""
    computed = _computed_inputs(node)[0]
    computed.replace_source_output(stop(computed.get_source_output()))


def stop(source: Output) -> Output:
    """The same values, through an operation that no transformation moves anything past."""
    least = np.finfo(source.get_element_type().to_dtype()).min
    return ops.maximum(source, ops.constant(least)).output(0)


def _pointwise_convolutions_to_matrix_products(nodes: list[Node], network: onnx.ModelProto) -> None:
    """The bias stays behind the product: a product with anything fused to it takes a slower path."""
    pointwise = {
        layer.node.name
        for layer in layer_nodes(network.graph)
        if layer.geometry.kind is LayerKind.conv1d and layer.geometry.is_pointwise
    }
    for node in nodes:
        if not is_of_kind(node, "Convolution") or layer_name(node) not in pointwise:
            continue
        weight = node.input_value(1).get_node()
        if not is_of_kind(weight, "Constant"):
            continue  # its weights are integers
        # As a constant: an array is copied by way of a list of Python's numbers.
        matrix = ops.constant(np.ascontiguousarray(weight.data[:, :, 0]))
        frames = ops.transpose(node.input_value(0), _TIME_LAST)
        product = ops.transpose(ops.matmul(frames, matrix, False, True), _TIME_LAST)
        read_instead(node.output(0), product.output(0))
