"""Puts NVIDIA pytorch-quantization's quantizers into a network, switched off."""

import copy
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from absl import logging as absl_logging
from pytorch_quantization import nn as quant_nn
from pytorch_quantization.tensor_quant import QuantDescriptor
from torch import nn

from speakerquant.architectures.units import quantizable_layers

# On import pytorch-quantization puts absl's handler on the root logger; then it reports every step it takes.
logging.getLogger().removeHandler(absl_logging.get_absl_handler())
absl_logging.set_verbosity(absl_logging.ERROR)

INPUT_QUANTIZER = QuantDescriptor(num_bits=8, calib_method="histogram")
WEIGHT_QUANTIZER = QuantDescriptor(num_bits=8, axis=(0,))

QuantizedLayer: TypeAlias = quant_nn.QuantConv1d | quant_nn.QuantLinear


def insert_quantizers(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in evaluation mode whose convolutions and linear layers carry disabled quantizers.

    Symmetric INT8; inputs per tensor with a histogram calibrator, weights per output channel. The copy
    computes exactly what ``model`` computes until a quantizer is enabled.
    """
    quantized = copy.deepcopy(model).eval()
    # A quantized layer looks at the source of every function that is running when it is made: in a thread of
    # its own there are few.
    layers = quantizable_layers(quantized)
    with ThreadPoolExecutor(1) as thread:
        replacements = [*thread.map(_with_quantizers, layers.values())]
    for name, layer in zip(layers, replacements, strict=True):
        parent_name, _, child_name = name.rpartition(".")
        setattr(quantized.get_submodule(parent_name), child_name, layer)
    return quantized


def quantized_layers(model: nn.Module) -> dict[str, QuantizedLayer]:
    """The layers that :func:`insert_quantizers` replaced, by module name, in network order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLayer)}


def _with_quantizers(layer: nn.Conv1d | nn.Linear) -> QuantizedLayer:
    descriptors = {"quant_desc_input": INPUT_QUANTIZER, "quant_desc_weight": WEIGHT_QUANTIZER}
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        quantized = quant_nn.QuantLinear(layer.in_features, layer.out_features, bias, **descriptors)
    else:
        quantized = quant_nn.QuantConv1d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            bias,
            layer.padding_mode,
            **descriptors,
        )
    quantized.weight = layer.weight
    quantized.bias = layer.bias
    quantized.input_quantizer.disable()
    quantized.weight_quantizer.disable()
    return quantized.eval()
