"""Puts the normalisation behind a layer with packed weights into what the layer stores anyway."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from speakerquant.graph.passes import (
    LAYERS,
    constants_of,
    is_blocked,
    makers_of,
    readers_of,
    remove_unused,
    store,
)

Array = npt.NDArray[np.float32]


def multiply_normalisations_into_scales(graph: onnx.GraphProto) -> None:
    """Multiply the factors of normalisations into scales and biases of the packed layers before them.

    A normalisation by channels multiplies and adds. Positive factors may as well be multiplied before a ReLU
    that lies between. What is added stays behind the ReLU, or joins the bias where there is none.
    """
    constants = constants_of(graph)
    makers, readers = makers_of(graph), readers_of(graph)

    def only_reader(node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        found = readers.get(node.output[0], [])
        return found[0] if len(found) == 1 and found[0].op_type == kind else None

    for layer in graph.node:
        dequantizer = makers.get(layer.input[1]) if layer.op_type in LAYERS else None
        if dequantizer is None or not is_blocked(dequantizer) or len(layer.input) < 3:
            continue
        relu = only_reader(layer, "Relu")
        normalisation = only_reader(relu or layer, "BatchNormalization")
        if normalisation is None:
            continue
        factor, offset = _factor_and_offset(normalisation, constants)
        if relu is not None and not (factor > 0).all():
            continue
        scales, bias = (
            numpy_helper.to_array(constants[name]) for name in (dequantizer.input[1], layer.input[2])
        )
        per_row = factor.reshape(-1, *[1] * (scales.ndim - 1))
        dequantizer.input[1] = store(graph, f"{layer.name}/scales", scales * per_row)
        layer.input[2] = store(graph, f"{layer.name}/bias", bias * factor + (offset if relu is None else 0))
        if relu is None:
            layer.output[0] = normalisation.output[0]
            del normalisation.output[:]  # nothing is computed from it any more
        else:
            column = offset.reshape(1, -1, *[1] * (scales.ndim - 2))
            added = store(graph, f"{layer.name}/offset", column)
            normalisation.CopyFrom(
                helper.make_node("Add", [relu.output[0], added], normalisation.output, normalisation.name)
            )
    remove_unused(graph)


def _factor_and_offset(
    normalisation: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
) -> tuple[Array, Array]:
    """A normalisation as a product and a sum, ``[channels]`` each."""
    gamma, beta, mean, variance = (numpy_helper.to_array(constants[name]) for name in normalisation.input[1:])
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in normalisation.attribute}
    deviation: Array = np.sqrt(variance + np.float32(attributes["epsilon"]))
    factor: Array = np.divide(gamma, deviation, dtype=np.float32)
    return factor, beta - mean * factor
