"""Gives a graph the names and the layout that those who ask it expect."""

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from speakerquant.architectures.interface import Interface

_INNER = "inner/"


def with_interface(model: onnx.ModelProto, interface: Interface) -> onnx.ModelProto:
    """A copy of a model that computes the same, asked by another interface; batch and time stay dynamic.

    Args:
        model: ``features [batch, n_mels, time]`` to ``embeddings``, as
            :func:`speakerquant.graph.masking.write_mask` writes it.
        interface: Names, layout and all metadata of the copy.
    """
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    graph = asked.graph
    [features], [embeddings] = graph.input, graph.output
    n_mels = features.type.tensor_type.shape.dim[1].dim_value
    arranged = interface.input if interface.time_last else f"{_INNER}{features.name}"
    made = {name for node in graph.node for name in node.output} | {each.name for each in graph.initializer}
    taken = made & {interface.input, interface.output}
    _rename(
        graph,
        {name: f"{_INNER}{name}" for name in taken}
        | {features.name: arranged, embeddings.name: interface.output},
    )
    if not interface.time_last:
        graph.node.insert(0, helper.make_node("Transpose", [interface.input], [arranged], perm=[0, 2, 1]))
        axes = ["batch", "time", n_mels]
        features.CopyFrom(helper.make_tensor_value_info(interface.input, TensorProto.FLOAT, axes))
    helper.set_model_props(asked, dict(interface.metadata))
    return asked


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Call tensors otherwise, wherever they are made, stored or read."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in (*graph.initializer, *graph.input, *graph.output):
        tensor.name = names.get(tensor.name, tensor.name)
