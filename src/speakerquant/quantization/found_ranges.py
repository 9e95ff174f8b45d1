"""Inputs of layers rounded by ranges that are found at run time.

Gradients pass as if nothing were rounded (:mod:`speakerquant.recovery`).
"""

import torch
from torch import Tensor

from speakerquant.architectures.layers import LayerGeometry, LayerKind
from speakerquant.quantization.precision import INPUT_GROUP, SMALLEST_GROUP, InputRange, Precision

LARGEST = 127
"""Steps from 0 to the largest magnitude, where that is found in each frame."""

_LARGEST_UNSIGNED = 255


def rounds_frames(precision: Precision, geometry: LayerGeometry) -> bool:
    """Whether a layer's input is rounded in each frame, :data:`INPUT_GROUP` channels by as many.

    In a precision that does so, the inputs of other layers are not rounded: of those over images, with
    grouped channels or a single output (which OpenVINO 2026.4 computes wrongly), and of those whose weights
    share scales among fewer channels.
    """
    if precision.input_range is not InputRange.frame or geometry.kind is LayerKind.conv2d:
        return False
    length = geometry.group_length(precision.group_size, SMALLEST_GROUP)
    is_product = geometry.groups == 1 and geometry.out_channels > 1
    return is_product and length is not None and length % INPUT_GROUP == 0


def channel_axis(geometry: LayerGeometry) -> int:
    """The axis of the channels of a layer's input."""
    return -1 if geometry.kind is LayerKind.linear else 1


def rounded_by_frame(x: Tensor, axis: int) -> Tensor:
    """Values rounded to -127..127 steps, of which the largest of every group of channels is 127.

    Args:
        x: An input of a layer.
        axis: That of its channels.
    """
    frames = x.movedim(axis, -1)
    groups = frames.reshape(-1, INPUT_GROUP)
    scales = _or_one(groups.detach().abs().amax(1) / LARGEST)
    zero_points = torch.zeros_like(scales, dtype=torch.int32)
    rounded = torch.fake_quantize_per_channel_affine(groups, scales, zero_points, 0, -LARGEST, LARGEST)
    return rounded.reshape(frames.shape).movedim(-1, axis)


def rounded_by_recording(x: Tensor) -> Tensor:
    """Each recording rounded to bytes from its smallest to its largest value, 0 among them.

    As ONNX's DynamicQuantizeLinear does with a tensor of one recording. Where a network folds time into the
    batch, each frame has a range of its own here, and in engines all of the recording have one.

    Args:
        x: An input of a layer, ``[batch, ...]``.
    """
    values = x.detach().flatten(1)
    smallest, largest = values.amin(1).clamp(max=0), values.amax(1).clamp(min=0)
    scales = _or_one((largest - smallest) / _LARGEST_UNSIGNED)
    zero_points = (-smallest / scales).round().to(torch.int32)
    return torch.fake_quantize_per_channel_affine(x, scales, zero_points, 0, 0, _LARGEST_UNSIGNED)


def _or_one(scales: Tensor) -> Tensor:
    """Scales with which zeros stay zeros, too."""
    return torch.where(scales > 0, scales, torch.ones_like(scales))
