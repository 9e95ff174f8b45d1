"""The layers of an ONNX graph: their geometry, by the attributes of their nodes, and what quantizes them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from speakerquant.architectures.layers import LayerGeometry, LayerKind
from speakerquant.graph.editing import attributes_of, constants_of, makers_of

LAYERS = ("Conv", "Gemm")
"""Operations that have weights."""

ROUNDED_FRAMES = "/RoundedFrames"
"""How the name of the node ends that gives a layer its input rounded in each frame."""

_CONVOLUTIONS = {1: LayerKind.conv1d, 2: LayerKind.conv2d}


@dataclass(frozen=True)
class LayerNode:
    """A layer of a graph.

    Attributes:
        node: What computes it.
        geometry: What each output is computed from.
        weight: The tensor that holds its weight, as floating-point values or as integers.
        dequantize_weight: The node that makes values of integer weights, if they are integers.
        rounds_input: Whether its input is rounded to integers before it.
        rounds_frames: Whether its input is rounded in each frame (:mod:`.frame_rounding`).
    """

    node: onnx.NodeProto
    geometry: LayerGeometry
    weight: onnx.TensorProto
    dequantize_weight: onnx.NodeProto | None
    rounds_input: bool
    rounds_frames: bool

    @property
    def has_integer_weights_only(self) -> bool:
        """Whether its weights are integers and its input is not, before it."""
        return self.dequantize_weight is not None and not self.rounds_input


def layer_nodes(graph: onnx.GraphProto) -> Iterator[LayerNode]:
    """Every layer of a graph whose weight is stored in it, in order; not those that no mask reaches."""
    makers, constants = makers_of(graph), constants_of(graph)
    for node in graph.node:
        if node.op_type not in LAYERS:
            continue
        dequantize = makers.get(node.input[1])
        if dequantize is not None and dequantize.op_type != "DequantizeLinear":
            dequantize = None  # such as one that computes the weight
        weight = constants.get(dequantize.input[0] if dequantize is not None else node.input[1])
        if weight is None:
            continue
        try:
            geometry = geometry_of(node, weight)
        except ValueError:  # such as a convolution along three axes
            continue
        source = makers.get(node.input[0])
        rounds_input = source is not None and source.op_type == "DequantizeLinear"
        rounds_frames = source is not None and source.name.endswith(ROUNDED_FRAMES)
        yield LayerNode(node, geometry, weight, dequantize, rounds_input, rounds_frames)


def geometry_of(node: onnx.NodeProto, weight: onnx.TensorProto) -> LayerGeometry:
    """The geometry of a convolution or of a linear layer ``x W^T + b``.

    Raises:
        ValueError: a linear layer of another form, or a convolution along more axes than two.
    """
    attributes = attributes_of(node)
    out_channels, channels_seen, *kernel = weight.dims
    if node.op_type == "Gemm":
        form = (attributes.get("alpha", 1), attributes.get("beta", 1), attributes.get("transB"))
        if form != (1, 1, 1) or attributes.get("transA", 0):
            raise ValueError(f"{node.name}: a linear layer of another form than x W^T + b")
        return LayerGeometry(LayerKind.linear, channels_seen, out_channels)
    if len(kernel) not in _CONVOLUTIONS:
        raise ValueError(f"{node.name}: a convolution along {len(kernel)} axes")
    padding = attributes.get("pads", [0] * 2 * len(kernel))
    groups = attributes.get("group", 1)
    return LayerGeometry(
        _CONVOLUTIONS[len(kernel)],
        channels_seen * groups,
        out_channels,
        tuple(kernel),
        tuple(attributes.get("strides", [1] * len(kernel))),
        tuple(attributes.get("dilations", [1] * len(kernel))),
        tuple(zip(padding[: len(kernel)], padding[len(kernel) :], strict=True)),
        groups=groups,
    )


def convolution_attributes(geometry: LayerGeometry) -> Mapping[str, Any]:
    """What :func:`geometry_of` reads from a convolution's node."""
    before, after = zip(*geometry.padding, strict=True)
    return {
        "kernel_shape": geometry.kernel,
        "strides": geometry.stride,
        "dilations": geometry.dilation,
        "pads": [*before, *after],
        "group": geometry.groups,
    }
