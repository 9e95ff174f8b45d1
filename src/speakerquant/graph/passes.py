"""Changes to an exported ONNX graph that make it smaller, faster or safer and leave what it computes."""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from speakerquant.graph.editing import attributes_of, follow, remove_unused, replace_nodes, store, used_nodes
from speakerquant.graph.layer_nodes import LAYERS


def read_shared_weights_directly(graph: onnx.GraphProto) -> None:
    """Remove the nodes that only rename weights: the exporter stores weights of equal values once."""
    renamed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    for node in graph.node:
        node.input[:] = [follow(renamed, name) for name in node.input]
    remove_unused(graph)


def store_padding(model: onnx.ModelProto) -> None:
    """Put numbers where the exporter computes each padding by a dozen operations on constants."""
    graph = model.graph
    inputs = {each.name for each in graph.input}
    for node in graph.node:
        if node.op_type != "Pad":
            continue
        amounts = helper.make_tensor_value_info(node.input[1], onnx.TensorProto.INT64, None)
        nodes = used_nodes(graph.node, {amounts.name})
        if inputs.intersection(name for each in nodes for name in each.input):
            continue  # it depends on the length
        constant = helper.make_graph(nodes, "padding", [], [amounts])
        [value] = ReferenceEvaluator(helper.make_model(constant, opset_imports=model.opset_import)).run(
            None, {}
        )
        node.input[1] = store(graph, f"{node.output[0]}/padding", value)
    remove_unused(graph)


def spell_out_padded_windows(graph: onnx.GraphProto) -> None:
    """Have poolings with padding and ``ceil_mode`` cut short or drop their last window as PyTorch does.

    OpenVINO (2026.4) divides the sum over a window that is cut short by the length of a whole one where
    padding counts, and keeps maxima of windows that begin in the padding behind.
    """
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        attributes = attributes_of(node)
        pads = attributes.get("pads", [])
        if node.op_type not in ("AveragePool", "MaxPool") or not attributes.get("ceil_mode") or not any(pads):
            continue
        source, output, axes = node.input[0], node.output[0], len(pads) // 2
        before, strides = np.array(pads[:axes], np.int64), np.array(attributes["strides"], np.int64)
        parts = ("padded", "windows", "frames", "reached", "number")
        padded, windows, frames, reached, number = (f"{output}/{part}" for part in parts)
        node.output[0] = windows
        if attributes.get("count_include_pad"):
            around = store(
                graph, f"{padded}/by", np.array([0, 0, *pads[:axes], 0, 0, *pads[axes:]], np.int64)
            )
            nodes.insert(-1, helper.make_node("Pad", [source, around], [padded]))
            node.input[0] = padded
            node.attribute.remove(next(each for each in node.attribute if each.name == "pads"))
        further = store(graph, f"{reached}/further", before + strides - 1)
        by_strides = store(graph, f"{number}/by", strides)
        first = store(graph, f"{output}/first", np.zeros(axes, np.int64))
        along = store(graph, f"{output}/axes", np.arange(2, 2 + axes))
        nodes += [
            helper.make_node("Shape", [source], [frames], start=2),
            helper.make_node("Add", [frames, further], [reached]),
            helper.make_node("Div", [reached, by_strides], [number]),  # of windows that begin before the end
            helper.make_node("Slice", [windows, first, number, along], [output]),
        ]
    replace_nodes(graph, nodes)


def count_no_padding_in_averages(graph: onnx.GraphProto) -> None:
    """Have poolings that pad nothing say so, as they average over what is there.

    The exporter says that padding counts, and ONNX Runtime before 1.29, as sherpa-onnx 2.0.1 has it, divides
    the sum over a last window that is cut short by the length of a whole one then.
    """
    for node in graph.node:
        if node.op_type == "AveragePool":
            attributes = {each.name: each for each in node.attribute}
            if "count_include_pad" in attributes and not any(getattr(attributes.get("pads"), "ints", ())):
                node.attribute.remove(attributes["count_include_pad"])


def spell_out_reductions(graph: onnx.GraphProto) -> None:
    """Put operations of their parts in place of reductions whose axes OpenVINO (2026.4) does not read.

    These are ReduceL1 and ReduceLogSumExp; as in PyTorch, the largest value is subtracted before the
    exponential and added behind the logarithm.
    """
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type not in ("ReduceL1", "ReduceLogSumExp"):
            nodes.append(node)
            continue
        attributes = attributes_of(node)
        [source], [output] = node.input, node.output
        axes = store(graph, f"{output}/axes", np.array(attributes["axes"], np.int64))
        keeps_axes = attributes.get("keepdims", 1)
        if node.op_type == "ReduceL1":
            nodes += [
                helper.make_node("Abs", [source], [f"{output}/absolute"]),
                helper.make_node("ReduceSum", [f"{output}/absolute", axes], [output], keepdims=keeps_axes),
            ]
            continue
        parts = ("largest", "below", "exponential", "sum", "logarithm", "result")
        largest, below, exponential, total, logarithm, result = (f"{output}/{part}" for part in parts)
        nodes += [
            helper.make_node("ReduceMax", [source], [largest], axes=attributes["axes"], keepdims=1),
            helper.make_node("Sub", [source, largest], [below]),
            helper.make_node("Exp", [below], [exponential]),
            helper.make_node("ReduceSum", [exponential, axes], [total], keepdims=1),
            helper.make_node("Log", [total], [logarithm]),
            helper.make_node("Add", [logarithm, largest], [output if keeps_axes else result]),
        ]
        if not keeps_axes:
            nodes.append(helper.make_node("Squeeze", [result, axes], [output]))
    replace_nodes(graph, nodes)


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
    replace_nodes(graph, nodes)
    remove_unused(graph)
