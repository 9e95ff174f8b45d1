"""Puts the batch normalisation behind a layer with integer weights into what the layer stores anyway."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from speakerquant.graph.editing import attributes_of, constants_of, readers_of, remove_unused, store
from speakerquant.graph.layer_nodes import LayerNode

Array = npt.NDArray[np.float32]


def multiply_batch_normalisations_into_scales(graph: onnx.GraphProto, layers: Sequence[LayerNode]) -> None:
    """Multiply the factors of batch normalisations into scales and biases of the layers before them.

    A normalisation by channels multiplies and adds. Positive factors may as well be multiplied before a ReLU
    that lies between. What is added stays behind the ReLU, or joins the bias where there is none.

    Args:
        graph: Changed in place.
        layers: Layers of it with integer weights that may be changed.
    """
    constants, readers = constants_of(graph), readers_of(graph)

    def only_reader(node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        found = readers.get(node.output[0], [])
        return found[0] if len(found) == 1 and found[0].op_type == kind else None

    for layer in layers:
        node, dequantize = layer.node, layer.dequantize_weight
        assert dequantize is not None
        relu = only_reader(node, "Relu")
        normalisation = only_reader(relu or node, "BatchNormalization")
        if normalisation is None or any(name not in constants for name in normalisation.input[1:]):
            continue  # there is none, or its parameters are computed
        factor, offset = _factor_and_offset(normalisation, constants)
        if relu is not None and not (factor > 0).all():
            continue
        scales = numpy_helper.to_array(constants[dequantize.input[1]])
        per_row = factor.reshape(-1, *[1] * (scales.ndim - 1))
        dequantize.input[1] = store(graph, f"{node.name}/scales", scales * per_row)
        bias = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else np.float32(0)
        bias = bias * factor + (offset if relu is None else 0)
        if len(node.input) > 2 or relu is None:
            node.input[2:] = [store(graph, f"{node.name}/bias", bias)]
        if relu is None:
            node.output[0] = normalisation.output[0]
            del normalisation.output[:]  # nothing is computed from it any more
        else:
            column = offset.reshape(1, -1, *[1] * layer.geometry.num_axes)
            added = store(graph, f"{node.name}/offset", column)
            normalisation.CopyFrom(
                helper.make_node("Add", [relu.output[0], added], normalisation.output, normalisation.name)
            )
    remove_unused(graph)


def _factor_and_offset(
    normalisation: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
) -> tuple[Array, Array]:
    """A normalisation as a product and a sum, ``[channels]`` each."""
    gamma, beta, mean, variance = (numpy_helper.to_array(constants[name]) for name in normalisation.input[1:])
    attributes = attributes_of(normalisation)
    deviation: Array = np.sqrt(variance + np.float32(attributes["epsilon"]))
    factor: Array = np.divide(gamma, deviation, dtype=np.float32)
    return factor, beta - mean * factor
