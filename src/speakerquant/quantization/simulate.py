"""Simulates a mask in PyTorch: each layer computes with inputs and weights rounded as its precision says."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from speakerquant.architectures.layers import LayerGeometry, QuantizableLayer, quantizable_layers
from speakerquant.quantization.found_ranges import (
    channel_axis,
    rounded_by_frame,
    rounded_by_recording,
    rounds_frames,
)
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FloatType, InputRange, Precision
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding, WeightRounding
from speakerquant.quantization.scales import MAX_WEIGHT_BITS, input_scale, weight_scales

InputRounding = Callable[[Tensor], Tensor]


def simulate(
    model: nn.Module,
    mask: Mask,
    table: CalibrationTable,
    max_weight_bits: int = MAX_WEIGHT_BITS,
    rounding: WeightRounding | None = None,
) -> nn.Module:
    """A copy of ``model`` in evaluation mode that computes what ``mask`` says, in FP32 arithmetic.

    Args:
        model: The FP32 network.
        mask: The precision of every layer.
        table: Ranges of the layers' inputs and weights.
        max_weight_bits: Most bits of integer weights. With 7, eight-bit weights keep to -63..63, for
            processors whose INT8 instructions saturate with more.
        rounding: How weights in groups become integers; none is :class:`Rounding`'s default.

    Raises:
        UserError: the table does not fit the model.
    """
    simulated = copy.deepcopy(model).eval()
    layers = quantizable_layers(simulated)
    for name, precision in mask.layers.items():
        layer, precision = layers[name], precision.within(max_weight_bits)
        geometry = LayerGeometry.of(layer)
        if precision.weights is not None and precision.has_fitted_scales:
            weight = layer.weight.data
            integers = (rounding or Rounding()).integers(
                name, weight.cpu().numpy(), geometry, precision.weights
            )
            layer.weight.data = torch.from_numpy(integers.values).to(weight.device)
        elif precision.weights is not None:
            _round_weight(name, layer, table, precision.weights.bounds[1])
        elif precision.arithmetic is FloatType.float16:
            for parameter in layer.parameters():
                parameter.data = _through_half(parameter.data)
        rounded = _input_rounding(name, precision, geometry, table)
        if rounded is not None:
            layer.register_forward_pre_hook(lambda _, inputs, rounded=rounded: (rounded(inputs[0]),))
    return simulated


def _round_weight(name: str, layer: QuantizableLayer, table: CalibrationTable, bound: int) -> None:
    weight = layer.weight.data
    scales = torch.from_numpy(weight_scales(name, weight.cpu().numpy(), table, bound)).to(weight.device)
    zero_points = torch.zeros_like(scales, dtype=torch.int32)
    layer.weight.data = torch.fake_quantize_per_channel_affine(weight, scales, zero_points, 0, -bound, bound)


def _input_rounding(
    name: str, precision: Precision, geometry: LayerGeometry, table: CalibrationTable
) -> InputRounding | None:
    if precision.input_range is InputRange.recording:
        return rounded_by_recording
    if precision.input_range is InputRange.frame:
        axis = channel_axis(geometry)
        return (lambda x: rounded_by_frame(x, axis)) if rounds_frames(precision, geometry) else None
    if precision.input_bits is not None:
        scale = float(input_scale(name, precision.input_bits, table))
        largest = 2 ** (precision.input_bits - 1) - 1
        return lambda x: torch.fake_quantize_per_tensor_affine(x, scale, 0, -largest - 1, largest)
    return _through_half if precision.arithmetic is FloatType.float16 else None


def _through_half(x: Tensor) -> Tensor:
    return x.half().float()
