"""Inputs rounded in each frame, spelled out in operations that every runtime has."""

from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import helper

from speakerquant.graph.editing import replace_nodes, store
from speakerquant.graph.layer_nodes import ROUNDED_FRAMES, LayerNode, layer_nodes
from speakerquant.quantization.found_ranges import LARGEST
from speakerquant.quantization.precision import INPUT_GROUP

NUM_OPERATIONS = 5
"""So many operations back from what a layer reads, each by its first input, is what was rounded."""


def round_frames(graph: onnx.GraphProto, layers: Collection[str]) -> None:
    """Round the inputs of layers, given by name, in place.

    As :func:`speakerquant.quantization.found_ranges.rounded_by_frame` does.
    """
    if not layers:
        return
    beginnings = tuple(f"{layer}/" for layer in layers)
    rounding = {
        layer.node.name: layer for layer in layer_nodes(graph) if layer.node.name.startswith(beginnings)
    }
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.name in rounding:
            nodes += _rounded(rounding[node.name], graph)
            node.input[0] = nodes[-1].output[0]
        nodes.append(node)
    replace_nodes(graph, nodes)


def _rounded(layer: LayerNode, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """What rounds the input of a layer ``[batch, channels, *axes]``."""
    name, geometry = layer.node.name, layer.geometry
    channels, axes = geometry.in_channels, [-1] * geometry.num_axes

    def named(what: str) -> str:
        return f"{name}/frames/{what}"

    def constant(what: str, value: np.float32 | list[int]) -> str:
        return store(graph, named(what), value)

    by_group = constant("by_group", [0, channels // INPUT_GROUP, INPUT_GROUP, *axes])
    by_channel = constant("by_channel", [0, channels, *axes])
    group_axis, largest = constant("group_axis", [2]), constant("largest_integer", np.float32(LARGEST))
    least = constant("least", np.finfo(np.float32).tiny)  # groups of zeros stay zeros
    yield helper.make_node("Reshape", [layer.node.input[0], by_group], [named("groups")])
    yield helper.make_node("Abs", [named("groups")], [named("magnitudes")])
    yield helper.make_node("ReduceMax", [named("magnitudes"), group_axis], [named("largest")], keepdims=1)
    yield helper.make_node("Div", [named("largest"), largest], [named("steps")])
    yield helper.make_node("Max", [named("steps"), least], [named("scales")])
    yield helper.make_node("Div", [named("groups"), named("scales")], [named("quotients")])
    yield helper.make_node("Round", [named("quotients")], [named("integers")])
    yield helper.make_node("Mul", [named("integers"), named("scales")], [named("values")])
    rounded, last = named("rounded"), f"{name}{ROUNDED_FRAMES}"
    yield helper.make_node("Reshape", [named("values"), by_channel], [rounded], last)
