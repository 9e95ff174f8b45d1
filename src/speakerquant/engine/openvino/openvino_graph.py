"""Changes to a network's graph without which OpenVINO computes it wrongly or slowly.

Each leaves the function as it is.
"""

import numpy as np
import onnx
from openvino import Model, Node, Output
from openvino import opset13 as ops

from speakerquant.architectures.layers import LayerKind
from speakerquant.graph.layer_nodes import layer_nodes

_TIME_LAST = np.array([0, 2, 1], np.int64)


def adapt(model: Model, network: onnx.ModelProto, *, matrix_products: bool) -> None:
    """Change, in place, a network read from ONNX so that OpenVINO computes what it says, and fast.

    Args:
        model: The network.
        network: The same in ONNX, whose names the model keeps.
        matrix_products: Run FP32 convolutions of kernel 1 as matrix products, which takes two thirds of the
            time where there is no AVX-512, and 1.2 times as long where there is.
    """
    nodes = model.get_ordered_ops()
    if any(is_of_kind(node, "FakeQuantize") for node in nodes):
        _stop_low_precision_propagation(nodes)
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


def _stop_low_precision_propagation(nodes: list[Node]) -> None:
    """Keep low-precision propagation from where OpenVINO (2024.6 to 2026.4) gets it wrong.

    A quantizer that it moves up through a concatenation and a batch normalisation that it moves down
    through a mean, even one between FP32 layers, both change what the network computes.
    """
    for node in nodes:
        after_concatenation = is_of_kind(node, "FakeQuantize") and is_of_kind(
            node.input_value(0).get_node(), "Concat"
        )
        if after_concatenation or is_of_kind(node, "ReduceMean"):
            node.input(0).replace_source_output(stop(node.input_value(0)))


def stop(source: Output) -> Output:
    """The same values, through an operation that no transformation moves anything past."""
    return ops.maximum(source, np.finfo(np.float32).min).output(0)


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
        matrix = np.ascontiguousarray(weight.data[:, :, 0])
        frames = ops.transpose(node.input_value(0), _TIME_LAST)
        product = ops.transpose(ops.matmul(frames, matrix, False, True), _TIME_LAST)
        for consumer in node.output(0).get_target_inputs():
            consumer.replace_source_output(product.output(0))
