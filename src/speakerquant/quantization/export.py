"""Writes a network as ONNX, with quantize/dequantize pairs where its quantizers are enabled."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from onnx import helper
from pytorch_quantization.nn import TensorQuantizer
from torch import nn

from speakerquant.cache import atomic_path
from speakerquant.quantization.graph_passes import (
    convolve_constants_once,
    store_padding,
    store_weights_quantized,
)

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
        store_weights_quantized(exported.graph)
        store_padding(exported)
        convolve_constants_once(exported.graph)
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
