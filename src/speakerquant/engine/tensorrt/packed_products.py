"""Layers with packed weights as TensorRT for RTX keeps them packed: as matrix products."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.graph.editing import store

_FEWEST_PACKED = 50_000  # weights; fewer are smaller unpacked: a product needs kernels, whose source counts

_CHANNELS_LAST = [0, 3, 2, 1]
_FRAMES, _CHANNELS = 2, 3
_END = np.iinfo(np.int64).max


def stays_packed(geometry: LayerGeometry) -> bool:
    """Whether a layer is better packed, as a product."""
    num_weights = geometry.out_channels * geometry.channels_seen * geometry.num_taps
    is_product = geometry.groups == 1 and geometry.num_axes < 2 and not geometry.has_stride
    return is_product and num_weights >= _FEWEST_PACKED


def packed_product(
    layer: onnx.NodeProto,
    geometry: LayerGeometry,
    dequantizer: onnx.NodeProto,
    constants: Mapping[str, onnx.TensorProto],
    graph: onnx.GraphProto,
) -> Iterator[onnx.NodeProto]:
    """A convolution ``[B, in, T, 1]`` to ``[B, out, T', 1]`` as one product of frames with weights.

    Beside each frame lie those that the convolution's other taps see.

    Args:
        layer: The convolution or linear layer.
        geometry: Of the layer, which :func:`stays_packed`.
        dequantizer: What turns blocks of its weights ``[out, in]`` or ``[out, in, width]`` into values.
        constants: The graph's.
        graph: Takes the new constants.
    """
    [output] = layer.output
    source, _, *bias = layer.input

    def taps_first(name: str) -> npt.NDArray[Any]:
        """A constant ``[out, in]`` or ``[out, in, width]`` as ``[width * in, out]``."""
        value = numpy_helper.to_array(constants[name])
        return value.reshape(*value.shape[:2], -1).transpose(2, 1, 0).reshape(-1, len(value))

    def indices(kind: str, *values: int) -> str:
        return store(graph, f"{output}/{kind}", np.array(values, np.int64))

    frames = f"{output}/frames"
    yield helper.make_node("Transpose", [source], [frames], perm=_CHANNELS_LAST)
    if geometry.is_padded:
        [(before, after)] = geometry.padding
        padded = f"{output}/padded"
        amounts = indices("padding", 0, 0, before, 0, 0, 0, after, 0)
        yield helper.make_node("Pad", [frames, amounts], [padded])
        frames = padded
    if geometry.num_taps > 1:
        [dilation] = geometry.dilation
        taps = [f"{output}/tap{tap}" for tap in range(geometry.num_taps)]
        axis = indices("axis", _FRAMES)
        for tap, name in enumerate(taps):
            later = (geometry.num_taps - 1 - tap) * dilation  # frames at the end that only later taps see
            start = indices(f"start{tap}", tap * dilation)
            end = indices(f"end{tap}", -later if later else _END)
            yield helper.make_node("Slice", [frames, start, end, axis], [name])
        frames = f"{output}/seen"
        yield helper.make_node("Concat", taps, [frames], axis=_CHANNELS)
    codes, scales = (store(graph, f"{output}/{name}", taps_first(name)) for name in dequantizer.input[:2])
    [length] = (entry.i for entry in dequantizer.attribute if entry.name == "block_size")
    weights, computed = f"{output}/weights", f"{output}/product"
    yield helper.make_node("DequantizeLinear", [codes, scales], [weights], axis=0, block_size=length)
    yield helper.make_node("MatMul", [frames, weights], [computed])
    if bias:
        yield helper.make_node("Add", [computed, *bias], [f"{output}/sum"])
        computed = f"{output}/sum"
    yield helper.make_node("Transpose", [computed], [output], layer.name, perm=_CHANNELS_LAST)
