"""Reads an ONNX file: what it computes, in plain terms, or why it cannot become a network of the project."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, inliner, numpy_helper
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from speakerquant.architectures.onnx_file.operators import DTYPES, OPERATORS
from speakerquant.errors import UserError, first_line
from speakerquant.files import digest, sha256

_OPSETS = range(11, 26)
_ADVISED_OPSET = 18  # the oldest that both exporters of PyTorch write
_AXES = 3
_LARGEST = 2**31  # bytes: what a message of protobuf may have
_LAYERS = ("Conv", "Gemm", "MatMul", "BatchNormalization")
_CONTROL_FLOW = ("If", "Loop", "Scan")
_RECURRENT = ("LSTM", "GRU", "RNN")
_INTEGER = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_SCOPES = "pkg.torch.onnx.name_scopes"
"""Where PyTorch's newer exporter lists the modules that a node lies in, and behind them the operation."""
_MODULE_OF = re.compile(r"\[(?:'[^']*', )*'([^']*)', '[^']*'\]")


@dataclass(frozen=True)
class Node:
    """An operation of a graph.

    Attributes:
        operator: What it computes.
        name: Its name; its operator and place, if it has none.
        module: The module that the exporter says it is of, such as ``layer1.0.conv1``; empty if it says none.
        inputs: Names of the tensors that it reads; empty where an optional one is left out.
        outputs: Names of the tensors that it makes.
        attributes: Its settings; ``opset`` is that of the file.
    """

    operator: str
    name: str
    module: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"node {self.name} ({self.operator})"


@dataclass(frozen=True)
class OnnxGraph:
    """What a file computes.

    Attributes:
        nodes: Its operations, in the order in which they run.
        constants: The stored tensors by name.
        input: Name of the features.
        sizes: Sizes of the features' three axes as the file says them; None where it leaves them open.
        axes: What the file calls these axes; empty where it does not.
        output: Name of the embedding.
    """

    nodes: Sequence[Node]
    constants: Mapping[str, npt.NDArray[Any]]
    input: str
    sizes: tuple[int | None, ...]
    axes: tuple[str, ...]
    output: str


def read_model(path: Path) -> tuple[onnx.ModelProto, str]:
    """The file's message, with what it stores in files beside it, and the digest of all that is read.

    The files beside it must lie in its folder. Functions that the file defines are replaced by what they do.

    Raises:
        UserError: it is no ONNX file, or incomplete.
    """
    if path.stat().st_size >= _LARGEST:
        raise UserError("larger than 2 GB, which no speaker network is")
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
        if model.functions:
            model = inliner.inline_local_functions(model)
        beside = _stored_beside(model)
        load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, OSError) as error:
        raise UserError(
            f"its external data cannot be read ({first_line(error)[:200]}); put the files "
            "that it was exported with into its folder"
        ) from None
    except (DecodeError, ValueError) as error:
        raise UserError(f"no ONNX file, or damaged ({first_line(error)[:100]})") from None
    if not model.graph.node:
        raise UserError("no ONNX file, or one without a network")
    # Of what was read, not of the files, which may be written meanwhile.
    contents = [sha256(each)[:32] for each in (content, *(tensor.raw_data for tensor in beside))]
    return model, digest(*contents) if beside else contents[0]


def _stored_beside(model: onnx.ModelProto) -> list[TensorProto]:
    """The tensors of a model that are stored in files beside it."""
    constants = [attribute.t for node in model.graph.node for attribute in node.attribute]
    return [*filter(uses_external_data, [*model.graph.initializer, *constants])]


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """What the file says of itself, by key."""
    return {entry.key: entry.value for entry in model.metadata_props}


def read_graph(model: onnx.ModelProto) -> OnnxGraph:
    """What the model computes.

    Raises:
        UserError: it is not a feed-forward network from features to an embedding in FP32; the message names
            the node and what to do.
    """
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset not in _OPSETS:
        raise UserError(
            f"opset {opset}, and 11 to 25 are known; export it with opset_version={_ADVISED_OPSET}, or "
            "convert it with onnx.version_converter"
        )
    graph = model.graph
    nodes = [_node(node, place, opset) for place, node in enumerate(graph.node)]
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for tensor in stored.values():
        if tensor.data_type not in DTYPES:
            kind = TensorProto.DataType.Name(tensor.data_type)
            raise UserError(f"{tensor.name} is stored as {kind}; give the FP32 file that it was made from")
    inputs = [each for each in graph.input if each.name not in stored]
    features = _features(inputs)
    shape = features.type.tensor_type.shape.dim or [onnx.TensorShapeProto.Dimension()] * _AXES
    if len(graph.output) != 1:
        names = ", ".join(each.name for each in graph.output)
        raise UserError(
            f"it has {len(graph.output)} outputs ({names}); keep the embedding alone, with "
            "onnx.utils.extract_model, and copy metadata_props, which that drops, or choose model/front_end"
        )
    constants = {name: numpy_helper.to_array(tensor) for name, tensor in stored.items()}
    return OnnxGraph(
        nodes,
        constants,
        features.name,
        tuple(axis.dim_value if axis.dim_value > 0 else None for axis in shape),  # -1 is an open one, too
        tuple(axis.dim_param for axis in shape),
        graph.output[0].name,
    )


def with_open_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model that declares no sizes: it runs at every batch and length that its nodes allow."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    stored = {tensor.name for tensor in opened.graph.initializer}
    for value in (*opened.graph.input, *opened.graph.output):
        if value.name not in stored:
            for place, axis in enumerate(value.type.tensor_type.shape.dim):
                axis.dim_param = f"{value.name}_{place}"
    del opened.graph.value_info[:]
    return opened


def _features(inputs: Sequence[onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    """The one input, of three axes if it says how many, and of more than one band."""
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise UserError(
            f"it has {len(inputs)} inputs ({names}); export a network that takes the features alone"
        )
    [features] = inputs
    declared = features.type.tensor_type
    if declared.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(declared.elem_type)
        raise UserError(f"its input {features.name} is {kind}; give a network that takes features in FP32")
    sizes = [axis.dim_value for axis in declared.shape.dim] if declared.HasField("shape") else [0] * _AXES
    if len(sizes) != _AXES or 1 in sizes[1:]:
        what = {
            2: "waveforms, or features of one recording",
            3: "waveforms of one channel, or features of one band",
            4: "images",
        }.get(len(sizes), "something else")
        raise UserError(
            f"its input {features.name} has {len(sizes)} axes, as {what}; a speaker network takes features "
            "[batch, time, bands] or [batch, bands, time]"
        )
    return features


def _node(node: onnx.NodeProto, place: int, opset: int) -> Node:
    name = node.name or f"{node.op_type}_{place}"
    said = f"node {name} ({node.op_type})"
    if node.op_type in _CONTROL_FLOW:
        raise UserError(
            f"{said}: control flow cannot be converted; export it without, such as with [:, 0] or flatten(1) "
            "in place of squeeze, or remove what never runs with onnxslim"
        )
    if node.op_type in _RECURRENT:
        raise UserError(f"{said}: a recurrent layer; only feed-forward networks can be converted")
    if node.op_type in _INTEGER or node.op_type.startswith(("QLinear", "QAttention", "QGemm")):
        raise UserError(f"{said}: it is quantized already; give the FP32 file that it was made from")
    if node.domain not in ("", "ai.onnx"):
        raise UserError(
            f"{said}: of {node.domain}, not of ONNX; give the file as exported, before any optimization"
        )
    if node.op_type not in OPERATORS and node.op_type not in (*_LAYERS, "Constant"):
        is_newer = not onnx.defs.has(node.op_type, _ADVISED_OPSET, "")  # an older opset spells it out
        older = f", such as with opset_version={_ADVISED_OPSET}" if is_newer else ""
        raise UserError(f"{said}: an operator that cannot be converted; export the network without it{older}")
    attributes = {each.name: _value(each) for each in node.attribute}
    return Node(
        node.op_type,
        name,
        _module(node),
        tuple(node.input),
        tuple(node.output),
        attributes | {"opset": opset, "outputs": len(node.output)},
    )


def _module(node: onnx.NodeProto) -> str:
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    written = _MODULE_OF.fullmatch(scopes)
    return written[1] if written else ""


def _value(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, int | float) else list(value) if isinstance(value, Sequence) else value


_KINDS = {
    "value": None,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def constant_value(node: Node) -> npt.NDArray[Any]:
    """The tensor that a node of the operator ``Constant`` holds.

    Raises:
        UserError: it holds none, but text or a sparse tensor.
    """
    for name, kind in _KINDS.items():
        if name in node.attributes:
            return np.asarray(node.attributes[name], kind)
    raise UserError(f"{node}: it holds no tensor of numbers, which cannot be converted; store it as one")
