"""Exports a network to ONNX, once, with a pair of Q/DQ nodes at every place where a mask may want one."""

import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.onnx.errors import OnnxExporterError

from speakerquant.errors import UserError, first_line
from speakerquant.graph.editing import makers_of, readers_of
from speakerquant.graph.passes import (
    count_no_padding_in_averages,
    read_shared_weights_directly,
    spell_out_padded_windows,
    spell_out_reductions,
    store_padding,
)
from speakerquant.quantization.pytorch_quantization import TensorQuantizer
from speakerquant.quantization.quantizers import insert_quantizers, quantized_layers

OPSET = 17
"""The version of ONNX's operators that networks are exported in."""

_EXAMPLE_FRAMES = 100
_WEIGHT = ".weight"


def export_network(network: nn.Module, n_mels: int, min_frames: int = 1) -> onnx.ModelProto:
    """``features [batch, n_mels, time]`` to ``embeddings``, every layer's input and weight behind Q/DQ nodes.

    Batch and time are dynamic. The scales are placeholders: :func:`speakerquant.graph.masking.apply_mask`
    turns the graph into that of a mask.

    Args:
        network: The network.
        n_mels: Mel bands that it takes.
        min_frames: Fewest frames that it takes.

    Raises:
        UserError: the network runs a layer not at all or more than once, or computes what ONNX cannot say.
    """
    quantized = insert_quantizers(network)
    layers = quantized_layers(quantized)
    for number, layer in enumerate(layers.values(), start=1):
        # Unlike each other, or the exporter would merge the quantizers of layers that read the same tensor.
        layer.input_quantizer.amax = float(number)
        per_channel = (layer.weight.shape[0], *(1 for _ in layer.weight.shape[1:]))
        layer.weight_quantizer.amax = np.full(per_channel, number, np.float32)
        layer.input_quantizer.enable()
        layer.weight_quantizer.enable()
    device = next(network.parameters()).device
    quantized.to(device)
    example = torch.zeros(2, n_mels, max(_EXAMPLE_FRAMES, min_frames), device=device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with (
            _temporarily(TensorQuantizer, "use_fb_fake_quant", True),  # quantizers as ONNX's operators
            # By which it would print its whole graph before an error.
            _temporarily(torch._C, "_jit_onnx_log", lambda *_: None),
            warnings.catch_warnings(),
        ):
            # That ranges become constants and that the exporter is the older one are both intended.
            warnings.simplefilter("ignore")
            try:
                torch.onnx.export(
                    quantized,
                    (example,),
                    path,
                    input_names=["features"],
                    output_names=["embeddings"],
                    dynamic_axes={"features": {0: "batch", 2: "time"}, "embeddings": {0: "batch"}},
                    opset_version=OPSET,
                    dynamo=False,
                )
            except OnnxExporterError as error:
                reason = first_line(error).partition(". ")[0]  # whom to ask and a graph follow
                raise UserError(
                    f"the network cannot be written as ONNX ({reason}); compute this by other operations"
                ) from None
        exported = onnx.load(path)
    _name_by_layer(exported.graph)
    _check_runs_each_once(layers, exported.graph)
    read_shared_weights_directly(exported.graph)
    store_padding(exported)
    spell_out_padded_windows(exported.graph)
    count_no_padding_in_averages(exported.graph)
    spell_out_reductions(exported.graph)
    return onnx.shape_inference.infer_shapes(exported)


def _name_by_layer(graph: onnx.GraphProto) -> None:
    """Name the nodes of each layer after it: ``<layer>/Conv``, ``<layer>/input/QuantizeLinear`` and so on."""
    makers, readers = makers_of(graph), readers_of(graph)
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or not node.input[0].endswith(_WEIGHT):
            continue
        layer = node.input[0].removesuffix(_WEIGHT)
        [dequantize_weight] = readers[node.output[0]]
        reader = readers[dequantize_weight.output[0]][0]
        dequantize_input = makers[reader.input[0]]
        reader.name = f"{layer}/{reader.op_type}"
        for what, pair in {
            "weight": (node, dequantize_weight),
            "input": (makers[dequantize_input.input[0]], dequantize_input),
        }.items():
            for quantizer in pair:
                quantizer.name = f"{layer}/{what}/{quantizer.op_type}"


def _check_runs_each_once(layers: Iterable[str], graph: onnx.GraphProto) -> None:
    readers = readers_of(graph)
    for layer in layers:
        name = f"{layer}/weight/DequantizeLinear"
        count = sum(len(readers[node.output[0]]) for node in graph.node if node.name == name)
        if count != 1:
            raise UserError(
                f"{layer}: the network runs this layer {count} times, and a layer that can be quantized must "
                "run once; " + ("give each use a layer of its own" if count else "remove it")
            )


@contextmanager
def _temporarily(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
