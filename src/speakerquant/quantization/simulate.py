"""Simulates a mask in PyTorch: fake quantization in the layers that the mask switches to INT8."""

import numpy as np
from torch import nn

from speakerquant.errors import UserError
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.quantizers import insert_quantizers, quantized_layers
from speakerquant.quantization.ranges import CalibrationTable


def simulate(model: nn.Module, mask: Mask, table: CalibrationTable, weight_bits: int = 8) -> nn.Module:
    """A copy of ``model`` in evaluation mode that computes what ``mask`` says; FP32 layers stay as they are.

    ``weight_bits`` of 7 keeps the INT8 weights within -63..63, for processors whose INT8 instructions
    saturate with more: the range is widened by 127/63 and the quantizer stays an ordinary 8-bit one.

    Raises:
        UserError: the table does not fit the model.
    """
    simulated = insert_quantizers(model)
    widening = np.float32(127 / (2 ** (weight_bits - 1) - 1))
    for name, layer in quantized_layers(simulated).items():
        if name not in mask.quantized_layers:
            continue
        weight_range = table.weight_ranges.get(name)
        if weight_range is None or weight_range.shape != layer.weight.shape[:1]:
            raise UserError(f"calibration table: no ranges that fit {name}; calibrate this model")
        per_channel = (-1, *(1 for _ in layer.weight.shape[1:]))
        layer.input_quantizer.amax = table.input_ranges[name]
        layer.weight_quantizer.amax = (weight_range * widening).reshape(per_channel)
        layer.input_quantizer.enable()
        layer.weight_quantizer.enable()
    return simulated.to(next(model.parameters()).device)
