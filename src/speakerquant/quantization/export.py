"""Writes a network as ONNX, with quantize/dequantize pairs where its quantizers are enabled."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from pytorch_quantization.nn import TensorQuantizer
from torch import nn

from speakerquant.cache import atomic_path

_OPSET = 17


def export_onnx(
    model: nn.Module, path: Path, n_mels: int, properties: Mapping[str, str] | None = None
) -> None:
    """Write ``model``, plain or simulated, to ``path``: ``features [batch, n_mels, time]`` to ``embeddings``.

    Batch and time are dynamic. Quantization is symmetric (zero points are 0); the weights of INT8 layers
    are stored as INT8. ``properties`` become the file's metadata properties, for whoever asks what it is.

    Raises:
        UserError: ``path`` cannot be written.
    """
    example = torch.zeros(2, n_mels, 100, device=next(model.parameters()).device)
    with atomic_path(path) as part:
        with _quantizers_as_onnx_operators(), warnings.catch_warnings():
            # That ranges become constants and that the exporter is the older one are both intended.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (example,),
                part,
                input_names=["features"],
                output_names=["embeddings"],
                dynamic_axes={"features": {0: "batch", 2: "time"}, "embeddings": {0: "batch"}},
                opset_version=_OPSET,
                dynamo=False,
            )
        exported = onnx.load(part)
        _store_weights_quantized(exported.graph)
        _store_padding(exported)
        helper.set_model_props(exported, {"n_mels": str(n_mels), **(properties or {})})
        onnx.save(exported, part)


@contextmanager
def _quantizers_as_onnx_operators() -> Iterator[None]:
    before = TensorQuantizer.use_fb_fake_quant
    TensorQuantizer.use_fb_fake_quant = True
    try:
        yield
    finally:
        TensorQuantizer.use_fb_fake_quant = before


def _store_weights_quantized(graph: onnx.GraphProto) -> None:
    """Fold QuantizeLinear into the FP32 weights it reads."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    constants = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    for node in list(graph.node):
        if node.op_type != "QuantizeLinear" or node.input[0] not in weights:
            continue
        weight = numpy_helper.to_array(weights[node.input[0]])
        scale = numpy_helper.to_array(constants[node.input[1]])
        steps = np.rint(weight / scale.reshape(-1, *(1 for _ in weight.shape[1:])))
        quantized = numpy_helper.from_array(steps.clip(-128, 127).astype(np.int8), node.output[0])
        graph.initializer.append(quantized)
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in weights.values():
        if tensor.name not in used:
            graph.initializer.remove(tensor)


def _store_padding(model: onnx.ModelProto) -> None:
    """Put numbers where the exporter computes each padding by a dozen operations on constants."""
    graph = model.graph
    for node in graph.node:
        if node.op_type != "Pad":
            continue
        amounts = helper.make_tensor_value_info(node.input[1], onnx.TensorProto.INT64, None)
        nodes = used_nodes(graph.node, {amounts.name})
        constant = helper.make_graph(nodes, "padding", [], [amounts])
        [value] = ReferenceEvaluator(helper.make_model(constant, opset_imports=model.opset_import)).run(
            None, {}
        )
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"{node.output[0]}/padding"))
        node.input[1] = graph.initializer[-1].name
    kept = used_nodes(graph.node, {output.name for output in graph.output})
    del graph.node[:]
    graph.node.extend(kept)


def used_nodes(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Those of ``nodes``, in their order, that the tensors of the ``wanted`` names are computed from."""
    wanted = set(wanted)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
