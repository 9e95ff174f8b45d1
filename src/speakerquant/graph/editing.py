"""Ways to look at an ONNX graph, and to change it in place."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Makers = Mapping[str, onnx.NodeProto]
"""The node that makes each tensor."""

Readers = Mapping[str, Sequence[onnx.NodeProto]]
"""The nodes that read each tensor, in their order, once for every time."""


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node by name, as Python's values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def remove_unused(graph: onnx.GraphProto) -> None:
    """Leave the nodes and initializers that the outputs are computed from."""
    kept = used_nodes(graph.node, {output.name for output in graph.output})
    replace_nodes(graph, kept)
    used = {name for node in kept for name in node.input}
    for index in reversed(range(len(graph.initializer))):  # removing by value compares weights
        if graph.initializer[index].name not in used:
            del graph.initializer[index]


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Make these the graph's nodes, of which they may hold any."""
    del graph.node[:]
    graph.node.extend(nodes)


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


def is_blocked(dequantizer: onnx.NodeProto) -> bool:
    """Whether groups of input channels have scales of their own."""
    return any(attribute.name == "block_size" for attribute in dequantizer.attribute)


def used_nodes(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Those of ``nodes``, in their order, that the tensors of the ``wanted`` names are computed from."""
    wanted = set(wanted)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
