"""Layers with packed weights as TensorRT for RTX keeps them packed: as matrix products."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.graph.editing import store
from speakerquant.graph.layer_nodes import convolution_attributes
from speakerquant.quantization.precision import SMALLEST_GROUP

_FEWEST_PACKED = 50_000  # weights; fewer are smaller unpacked: a product needs kernels, whose source counts

_CHANNELS = 1
_CHANNELS_LAST = [0, 3, 2, 1]  # and back: the two axes in between may be in either order


def stays_packed(geometry: LayerGeometry) -> bool:
    """Whether a layer is better packed, as a product, whose weights must be in groups of input channels."""
    num_weights = geometry.out_channels * geometry.channels_seen * geometry.num_taps
    is_product = geometry.groups == 1 and geometry.channels_seen % SMALLEST_GROUP == 0
    return is_product and num_weights >= _FEWEST_PACKED


def packed_product(
    layer: onnx.NodeProto,
    geometry: LayerGeometry,
    dequantizer: onnx.NodeProto,
    constants: Mapping[str, onnx.TensorProto],
    graph: onnx.GraphProto,
) -> Iterator[onnx.NodeProto]:
    """A convolution of images ``[B, in, H, W]`` as one product of places with weights.

    What each tap sees is selected by a convolution of ones and zeros for each channel, which takes care of
    strides, dilation and padding, and no kernel of its own (:mod:`.tensorrt_rtx_graph`).

    Args:
        layer: The convolution or linear layer; it reads and makes images (:mod:`.images`).
        geometry: Of the layer, which :func:`stays_packed`.
        dequantizer: What turns blocks of its weights ``[out, in, *kernel]`` into values.
        constants: The graph's.
        graph: Takes the new constants.
    """
    [output] = layer.output
    source, _, *bias = layer.input
    geometry = geometry.in_two_dimensions()

    def taps_first(name: str) -> npt.NDArray[Any]:
        """A constant ``[out, in, *kernel]`` as ``[taps * in, out]``."""
        value = numpy_helper.to_array(constants[name])
        return value.reshape(*value.shape[:2], -1).transpose(2, 1, 0).reshape(-1, len(value))

    seen = source
    if not geometry.is_pointwise:
        attributes = {**convolution_attributes(geometry), "group": geometry.in_channels}
        taps = []
        for tap, selection in enumerate(np.eye(geometry.num_taps, dtype=np.float32)):
            kernels = np.tile(selection.reshape(1, 1, *geometry.kernel), (geometry.in_channels, 1, 1, 1))
            taps.append(f"{output}/tap{tap}")
            selected = store(graph, f"{output}/selection{tap}", kernels)
            yield helper.make_node("Conv", [source, selected], [taps[-1]], **attributes)
        seen = f"{output}/seen"
        yield helper.make_node("Concat", taps, [seen], axis=_CHANNELS)
    places = f"{output}/places"
    yield helper.make_node("Transpose", [seen], [places], perm=_CHANNELS_LAST)
    codes, scales = (store(graph, f"{output}/{name}", taps_first(name)) for name in dequantizer.input[:2])
    [length] = (entry.i for entry in dequantizer.attribute if entry.name == "block_size")
    weights, computed = f"{output}/weights", f"{output}/product"
    yield helper.make_node("DequantizeLinear", [codes, scales], [weights], axis=0, block_size=length)
    yield helper.make_node("MatMul", [places, weights], [computed])
    if bias:
        yield helper.make_node("Add", [computed, *bias], [f"{output}/sum"])
        computed = f"{output}/sum"
    yield helper.make_node("Transpose", [computed], [output], layer.name, perm=_CHANNELS_LAST)
