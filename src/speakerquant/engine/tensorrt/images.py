"""Tensors as images: with axes of size 1 behind their own, until there are four.

What two-dimensional layers compute are images, and so is what other operations make of them, as far as these
compute the same on images. Any other operation gets the tensors that it always got.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from speakerquant.graph.editing import attributes_of, constants_of, store

_RANK = 4

_BY_ELEMENT = {
    *("Abs", "Clip", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Neg", "Relu"),
    *("Sigmoid", "Softplus", "Sqrt", "Tanh"),
    *("BatchNormalization", "Cast", "QuantizeLinear", "DequantizeLinear"),
}
_BROADCASTING = {"Add", "Div", "Max", "Min", "Mul", "Pow", "PRelu", "Sub", "Sum"}
_ALONG_AN_AXIS = {"Concat": 0, "Softmax": -1, "Split": 0}  # which one, where the node does not say
_REDUCTIONS = {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}


def as_image(value: npt.NDArray[np.generic], rank: int | None = None) -> npt.NDArray[np.generic]:
    """A stored value as an image; where it goes with tensors of a higher rank, as one of these."""
    before = 0 if rank is None else rank - value.ndim
    return value.reshape(*[1] * before, *value.shape, *[1] * (_RANK - before - value.ndim))


class Images:
    """The tensors of a graph, each in the form that its reader takes.

    Args:
        graph: The graph; it takes new constants, and its nodes are not changed before they are added.
        layer_inputs: The rank of each tensor that a layer reads.

    Attributes:
        nodes: Those of the new graph.
    """

    def __init__(self, graph: onnx.GraphProto, layer_inputs: Mapping[str, int]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph = graph
        self._constants = constants_of(graph)
        self._images: dict[str, tuple[str, int]] = {}  # name and rank without the axes behind
        self._restored: set[str] = set()
        self._axes: dict[int, str] = {}
        # What only comes between a tensor and a layer is computed on the image too.
        self._wanted = dict(layer_inputs)
        for node in reversed(graph.node):
            if node.op_type in _BY_ELEMENT and node.output[0] in self._wanted:
                self._wanted[node.input[0]] = self._wanted[node.output[0]]

    def image(self, name: str, rank: int) -> str:
        """The name of a tensor's image; ``rank`` is the tensor's own, and one of four is an image itself."""
        if rank == _RANK:
            return name
        if name not in self._images:
            self._restored.add(name)
            self.nodes.append(
                helper.make_node("Unsqueeze", [name, self._axes_behind(rank)], [self.made(name, rank)])
            )
        return self._images[name][0]

    def made(self, name: str, rank: int) -> str:
        """The name that the image of a tensor is to be made under."""
        if rank == _RANK:
            return name
        self._images[name] = f"{name}/image", rank
        return self._images[name][0]

    def restore(self, name: str) -> None:
        """Have a tensor in its own form too."""
        if name in self._images and name not in self._restored:
            self._restored.add(name)
            image, rank = self._images[name]
            self.nodes.append(helper.make_node("Squeeze", [image, self._axes_behind(rank)], [name]))

    def add(self, node: onnx.NodeProto) -> None:
        """Add an operation, on images if its inputs are images and it computes the same on them."""
        rank = self._rank_of_inputs(node)
        made = None if rank is None else self._adapt(node, rank)
        if rank is None or made is None:
            for name in node.input:
                self.restore(name)
        else:
            for place in range(self._num_tensors(node)):
                node.input[place] = self._as_image(node, place, rank)
            node.output[:] = [self.made(name, made) for name in node.output]
        self.nodes.append(node)

    def _rank_of_inputs(self, node: onnx.NodeProto) -> int | None:
        """The rank of the tensors that a node's images are of; None where it has none, or others too."""
        tensors = [name for name in node.input[: self._num_tensors(node)] if name not in self._constants]
        if node.op_type in _BY_ELEMENT and tensors and node.output[0] in self._wanted:
            return self._wanted[node.output[0]]
        ranks = {self._images[name][1] if name in self._images else None for name in tensors}
        return ranks.pop() if len(ranks) == 1 else None

    def _num_tensors(self, node: onnx.NodeProto) -> int:
        """How many of a node's inputs, from the first on, would be images; the others are parameters."""
        return len(node.input) if node.op_type in _BROADCASTING | {"Concat"} else 1

    def _as_image(self, node: onnx.NodeProto, place: int, rank: int) -> str:
        name = node.input[place]
        if name not in self._constants:
            return self.image(name, rank)
        value = numpy_helper.to_array(self._constants[name])
        return store(self._graph, f"{node.output[0]}/{place}", as_image(value, rank)) if value.ndim else name

    def _adapt(self, node: onnx.NodeProto, rank: int) -> int | None:
        """Let a node compute on images of tensors of a rank what it computes on these.

        Returns:
            The rank of what it computes without the axes behind; None if it is not the same on images.
        """
        attributes = attributes_of(node)
        if node.op_type in _BY_ELEMENT:
            return rank
        if node.op_type in _BROADCASTING:
            stored = (self._constants[name] for name in node.input if name in self._constants)
            return rank if all(len(each.dims) <= rank for each in stored) else None
        if node.op_type in _ALONG_AN_AXIS:
            if any(name in self._constants for name in node.input[: self._num_tensors(node)]):
                return None
            _set(node, axis=attributes.get("axis", _ALONG_AN_AXIS[node.op_type]) % rank)
            return rank
        if node.op_type in _REDUCTIONS:
            return self._adapt_reduction(node, rank, attributes.get("keepdims", 1))
        if node.op_type == "Pad":
            amounts = self._numbers(node, 1)
            if amounts is None or len(amounts) != 2 * rank:
                return None
            behind = [0] * (_RANK - rank)
            widened = np.array([*amounts[:rank], *behind, *amounts[rank:], *behind], np.int64)
            node.input[1] = store(self._graph, f"{node.output[0]}/amounts", widened)
            return rank
        return None

    def _adapt_reduction(self, node: onnx.NodeProto, rank: int, keeps_axes: int) -> int | None:
        given = [list(entry.ints) for entry in node.attribute if entry.name == "axes"]
        axes = given[0] if given else self._numbers(node, 1)
        axes = None if axes is None else sorted(axis % rank for axis in axes)
        if not axes or not (keeps_axes or axes == [rank - 1]):
            return None
        if given:
            _set(node, axes=axes)
        else:
            node.input[1] = store(self._graph, f"{node.output[0]}/axes", np.array(axes, np.int64))
        _set(node, keepdims=1)
        return rank if keeps_axes else rank - 1

    def _numbers(self, node: onnx.NodeProto, place: int) -> list[int] | None:
        """A parameter that lists numbers, if it is stored."""
        stored = self._constants.get(node.input[place]) if len(node.input) > place else None
        return None if stored is None else numpy_helper.to_array(stored).ravel().tolist()

    def _axes_behind(self, rank: int) -> str:
        if rank not in self._axes:
            self._axes[rank] = store(self._graph, f"axes_behind_{rank}", np.arange(rank, _RANK))
        return self._axes[rank]


def _set(node: onnx.NodeProto, **attributes: int | Sequence[int]) -> None:
    for attribute in list(node.attribute):
        if attribute.name in attributes:
            node.attribute.remove(attribute)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
