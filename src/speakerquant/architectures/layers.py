"""The layers of a network that have weights: what each computes, and which of them can be quantized."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speakerquant.architectures.units import UnreachedLayer

QuantizableLayer: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Linear
"""The layers whose weights can be quantized."""

_ZEROS = "zeros"


class LayerKind(StrEnum):
    """What a layer is."""

    linear = "linear"
    conv1d = "conv1d"
    conv2d = "conv2d"


@dataclass(frozen=True)
class LayerGeometry:
    """What each output of a layer is computed from, and how the layer's weights are arranged.

    A weight is ``[out_channels, in_channels / groups, *kernel]``. Its *columns* are all weights of an output
    channel, one tap of the kernel after the other, ``[out_channels, num_taps * in_channels / groups]``.

    Attributes:
        kind: What the layer is.
        in_channels: Channels of the input: its second axis, or the last one of a linear layer.
        out_channels: Channels of the output.
        kernel: Taps along each axis; a linear layer has no axes.
        stride: Distance of two outputs along each axis.
        dilation: Distance of two taps along each axis.
        padding: Places added before and after each axis.
        padding_mode: What they are filled with, in PyTorch's words.
        groups: Parts that the channels are divided into, each of which sees itself only.
    """

    kind: LayerKind
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    padding_mode: str = _ZEROS
    groups: int = 1

    @classmethod
    def of(cls, layer: QuantizableLayer) -> "LayerGeometry":
        """The geometry of a PyTorch layer."""
        if isinstance(layer, nn.Linear):
            return cls(LayerKind.linear, layer.in_features, layer.out_features)
        return cls(
            LayerKind.conv1d if isinstance(layer, nn.Conv1d) else LayerKind.conv2d,
            layer.in_channels,
            layer.out_channels,
            tuple(layer.kernel_size),
            tuple(layer.stride),
            tuple(layer.dilation),
            _padding(layer),
            layer.padding_mode,
            layer.groups,
        )

    def __str__(self) -> str:
        words = "depthwise " if 1 < self.groups == self.in_channels else "grouped " if self.groups > 1 else ""
        kernel = f" of kernel {'x'.join(map(str, self.kernel))}" if self.kernel else ""
        return f"{words}{self.kind}{kernel}"

    @property
    def num_axes(self) -> int:
        """Axes that the kernel moves along."""
        return len(self.kernel)

    @property
    def num_taps(self) -> int:
        """Places that each output sees."""
        return math.prod(self.kernel)

    @property
    def channels_seen(self) -> int:
        """Input channels that each output sees."""
        return self.in_channels // self.groups

    @property
    def span(self) -> tuple[int, ...]:
        """Places along each axis from the first tap to the last."""
        return tuple(step * (taps - 1) + 1 for taps, step in zip(self.kernel, self.dilation, strict=True))

    @property
    def is_padded(self) -> bool:
        """Whether anything is added around the input."""
        return any(before or after for before, after in self.padding)

    @property
    def has_stride(self) -> bool:
        """Whether outputs are left out."""
        return any(step > 1 for step in self.stride)

    @property
    def is_pointwise(self) -> bool:
        """Whether each output sees all channels of one place, and no place is left out or added."""
        return self.num_taps == self.groups == 1 and not self.has_stride and not self.is_padded

    def group_length(self, most: int | None, fewest: int) -> int | None:
        """How many input channels share a scale, each tap having scales of its own.

        None where an output channel has one scale, for all its taps: where no size is given, and where the
        channels that an output sees do not divide into such groups. A scale for each of the few channels of
        a depthwise convolution would take more than its weights.

        Args:
            most: Largest size, a power of two.
            fewest: Smallest size, a power of two.
        """
        length = most or 0
        while length > fewest and self.channels_seen % length:
            length //= 2
        return length if length and self.channels_seen % length == 0 else None

    def columns(self, weight: Tensor) -> Tensor:
        """The columns of a weight, or of anything that is arranged as one, ``[out, taps * in]``."""
        return weight.flatten(2).transpose(1, 2).flatten(1) if self.kernel else weight

    def from_columns(self, columns: Tensor) -> Tensor:
        """The opposite of :meth:`columns`; there may be fewer input channels than a weight has."""
        if not self.kernel:
            return columns
        tapped = columns.reshape(len(columns), self.num_taps, -1).transpose(1, 2)
        return tapped.reshape(*tapped.shape[:2], *self.kernel).contiguous()

    def windows(self, inputs: Tensor) -> Tensor:
        """What each output sees of an input, ``[B, *outputs, in_channels, *kernel]``, as a view."""
        if not self.kernel:
            return inputs
        seen = self._padded(inputs)
        for axis, (span, stride, step) in enumerate(zip(self.span, self.stride, self.dilation, strict=True)):
            seen = seen.unfold(2 + axis, span, stride)[..., ::step]
        return seen.movedim(1, 1 + self.num_axes)

    def seen(self, windows: Tensor, places: Tensor) -> Tensor:
        """What some outputs see, as columns of each group of channels: ``[groups, places, taps * in]``.

        Args:
            windows: As :meth:`windows` gives them.
            places: Numbers of outputs, counted through all recordings.
        """
        outputs = windows.shape[: windows.dim() - 1 - self.num_axes]
        chosen = windows[torch.unravel_index(places.to(windows.device), outputs)]
        grouped = chosen.reshape(len(chosen), self.groups, self.channels_seen, self.num_taps)
        return grouped.permute(1, 0, 3, 2).flatten(2)

    def arranged(self, inputs: Tensor) -> Tensor:
        """An input as :meth:`compute` takes it: with what convolutions cannot add themselves, or a matrix."""
        if not self.kernel:
            return inputs.flatten(0, -2) if inputs.dim() > 2 else inputs
        return inputs if self._pads_itself else self._padded(inputs)

    def compute(self, arranged: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The outputs of an input that :meth:`arranged` has arranged."""
        if not self.kernel:
            return F.linear(arranged, weight, bias)
        padding = [before for before, _ in self.padding] if self._pads_itself else [0] * self.num_axes
        convolve = F.conv1d if self.kind is LayerKind.conv1d else F.conv2d
        return convolve(arranged, weight, bias, self.stride, padding, self.dilation, self.groups)

    def restored(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Outputs that :meth:`compute` gave, in the form that belongs to the inputs."""
        if self.kernel or inputs.dim() <= 2:
            return outputs
        return outputs.reshape(*inputs.shape[:-1], self.out_channels)

    def in_two_dimensions(self) -> "LayerGeometry":
        """The same of a convolution over images, with further axes that it does not move along."""
        missing = 2 - self.num_axes
        return LayerGeometry(
            LayerKind.conv2d,
            self.in_channels,
            self.out_channels,
            (*self.kernel, *[1] * missing),
            (*self.stride, *[1] * missing),
            (*self.dilation, *[1] * missing),
            (*self.padding, *[(0, 0)] * missing),
            self.padding_mode,
            self.groups,
        )

    @property
    def _pads_itself(self) -> bool:
        is_symmetric = all(before == after for before, after in self.padding)
        return not self.is_padded or (self.padding_mode == _ZEROS and is_symmetric)

    def _padded(self, inputs: Tensor) -> Tensor:
        if not self.is_padded:
            return inputs
        amounts = [amount for ends in reversed(self.padding) for amount in ends]
        return F.pad(inputs, amounts, "constant" if self.padding_mode == _ZEROS else self.padding_mode)


def quantizable_layers(model: nn.Module) -> dict[str, QuantizableLayer]:
    """Return every convolution and linear layer by its module name, in network order."""
    return {name: layer for name, layer in _layers(model) if isinstance(layer, QuantizableLayer)}


def geometries(model: nn.Module) -> dict[str, LayerGeometry]:
    """Return the geometry of every layer that can be quantized, by its module name, in network order."""
    return {name: LayerGeometry.of(layer) for name, layer in quantizable_layers(model).items()}


def unreached_layers(model: nn.Module) -> dict[str, UnreachedLayer]:
    """Return every other module that has matrices of weights, by its name, in network order.

    Such are transposed convolutions, recurrent layers, and whatever multiplies by parameters of its own.
    """
    return {
        name: UnreachedLayer(type(layer).__name__, _num_weights(layer))
        for name, layer in _layers(model)
        if not isinstance(layer, QuantizableLayer)
    }


def unreached_share(model: nn.Module) -> float:
    """Return the share of the weights that stay in FP32 whatever the mask, from 0 to 1."""
    unreached = sum(layer.num_weights for layer in unreached_layers(model).values())
    reached = sum(_num_weights(layer) for layer in quantizable_layers(model).values())
    return unreached / (unreached + reached) if unreached else 0.0


def unreached_in_words(model: nn.Module) -> str:
    """Return which weights no mask reaches, such as ``3.1 % of the weights: gru (GRU)``, or nothing."""
    layers = ", ".join(f"{name} ({layer.kind})" for name, layer in unreached_layers(model).items())
    return f"{100 * unreached_share(model):.1f} % of the weights: {layers}" if layers else ""


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules with matrices of weights, by name; the whole where it computes with its parts' weights."""
    is_layer = isinstance(module, QuantizableLayer | nn.MultiheadAttention)
    if is_layer or any(parameter.dim() > 1 for parameter in module.parameters(recurse=False)):
        yield prefix or "network", module
    if not is_layer:
        for name, child in module.named_children():
            yield from _layers(child, f"{prefix}.{name}" if prefix else name)


def _num_weights(layer: nn.Module) -> int:
    own = layer.parameters(recurse=isinstance(layer, nn.MultiheadAttention))
    return sum(parameter.numel() for parameter in own if parameter.dim() > 1)


def _padding(layer: nn.Conv1d | nn.Conv2d) -> tuple[tuple[int, int], ...]:
    """Places before and after each axis; what is left over of an even kernel's comes after, as in PyTorch."""
    if layer.padding == "valid":
        return ((0, 0),) * len(layer.kernel_size)
    if layer.padding == "same":
        total = [step * (taps - 1) for taps, step in zip(layer.kernel_size, layer.dilation, strict=True)]
        return tuple((each // 2, each - each // 2) for each in total)
    assert isinstance(layer.padding, Sequence)
    return tuple((int(each), int(each)) for each in layer.padding)
