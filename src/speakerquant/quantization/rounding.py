"""Weights of fewer than eight bits: integers in groups of input channels, and how values become them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save_file
from torch import Tensor

from speakerquant import schema_versions
from speakerquant.cache import Cache
from speakerquant.errors import UserError
from speakerquant.files import atomic_path, digest

Array = npt.NDArray[np.float32]

_SMALLEST_GROUP = 16
_CANDIDATES = 40  # scales tried for a group, from _LEAST of the one without clipping up to that
_LEAST = 0.3
_DAMPING = 0.01  # of the Hessian's mean diagonal, as in the reference implementation of GPTQ
_BLOCK = 128  # columns whose errors are passed on together


class RoundingMethod(Enum):
    """What decides the integer of a weight: the weight alone, or its whole channel (GPTQ)."""

    nearest = auto()
    gptq = auto()


@dataclass(frozen=True)
class IntegerWeights:
    """Weights of one layer as integers.

    Attributes:
        steps: ``[out, in]`` or ``[out, in, width]``, int8.
        scales: What one step stands for; may be negative. Float32 ``[out, groups]`` or
            ``[out, groups, width]``.
    """

    steps: npt.NDArray[np.int8]
    scales: Array

    def save(self, path: Path) -> None:
        """Write them as one safetensors file, whole or not at all."""
        with atomic_path(path) as part:
            save_file({"steps": self.steps, "scales": self.scales}, part)

    @classmethod
    def load(cls, path: Path) -> "IntegerWeights":
        """Read what :meth:`save` wrote.

        Raises:
            UserError: the file is missing or holds something else.
        """
        try:
            return cls(**load(path.read_bytes()))
        except (OSError, SafetensorError, TypeError) as error:
            raise UserError(f"{path}: not rounded weights ({error}); delete it and run again") from None

    @property
    def group_length(self) -> int:
        """Input channels that share a scale."""
        return int(self.steps.shape[1] // self.scales.shape[1])

    @property
    def values(self) -> Array:
        """What the integers stand for, in the shape of ``steps``."""
        return self.steps.astype(np.float32) * self.scales.repeat(self.group_length, axis=1)


@dataclass(frozen=True, eq=False)
class Rounding:
    """How weights become integers of few bits.

    Scales have the least squared error over the weights of their group, which may clip the largest. Then each
    weight takes the nearest integer; or, with Hessians, columns are rounded one after the other, and what a
    column loses the later ones make up for (Frantar et al.: "GPTQ: Accurate post-training quantization for
    generative pre-trained transformers", ICLR 2023), with the scale of a group chosen when it is reached.

    Attributes:
        group_size: Most input channels that share a scale, a power of two from 16 on; a layer takes the
            largest that divides its number of channels, or all channels if none does. None: all of them. Each
            tap of a convolution has scales of its own.
        gather: Gives what :func:`speakerquant.quantization.hessians.gather_hessians` finds, float32
            ``[width * in, width * in]`` by layer, once a layer is to be rounded; none rounds to the nearest.
        cache: Keeps integers once they are made; none keeps them in this object only.
        identity: What determines them beside the size of groups: weights and Hessians.
    """

    group_size: int | None = 64
    gather: Callable[[], Mapping[str, npt.NDArray[np.float32]]] | None = None
    cache: Cache | None = None
    identity: object = None
    _made: dict[tuple[str, int], IntegerWeights] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        size = self.group_size
        if size is not None and (size < _SMALLEST_GROUP or size.bit_count() != 1):
            raise UserError(
                f"rounding.group_size={size}: give a power of two from {_SMALLEST_GROUP} on, which engines "
                "compute with, or null for all channels"
            )

    def integers(self, layer: str, weight: Array, bits: int) -> IntegerWeights:
        """The integers of a layer's weight ``[out, in]`` or ``[out, in, width]``; made once for each layer.

        Raises:
            UserError: the Hessian of the layer is missing, does not fit it, or says nothing.
        """
        key = (layer, bits)
        if key not in self._made:
            self._made[key] = self._kept(layer, weight, bits)
        return self._made[key]

    def _kept(self, layer: str, weight: Array, bits: int) -> IntegerWeights:
        if self.cache is None:
            return self._rounded(layer, weight, bits)
        key = digest(schema_versions.ROUNDED_WEIGHTS, self.identity, self.group_size, layer, bits)

        def make(path: Path) -> None:
            self._rounded(layer, weight, bits).save(path)

        return IntegerWeights.load(self.cache.get("rounded_weights", key, make, suffix=".safetensors"))

    def _rounded(self, layer: str, weight: Array, bits: int) -> IntegerWeights:
        taps = torch.from_numpy(np.array(weight.reshape(*weight.shape[:2], -1))).permute(0, 2, 1)
        columns = taps.flatten(1)  # tap after tap
        length = _group_length(weight.shape[1], self.group_size)
        if self.gather is None:
            groups = columns.reshape(len(columns), -1, length)
            scales = _scales(groups, bits)
            steps, scales = _nearest(groups, scales, bits).flatten(1), scales[..., 0]
        else:
            steps, scales = _gptq(columns, self._hessian(layer, columns.shape[1]), bits, length)
        width = taps.shape[1]

        def arranged(values: Tensor) -> npt.NDArray[np.float32]:
            tapped = values.reshape(len(values), width, -1).permute(0, 2, 1)
            shape = (*tapped.shape[:2], *weight.shape[2:])
            return np.ascontiguousarray(tapped.reshape(shape).numpy())

        return IntegerWeights(arranged(steps).astype(np.int8), arranged(scales))

    def _hessian(self, layer: str, num_columns: int) -> Tensor:
        if layer not in self._hessians or self._hessians[layer].shape != (num_columns, num_columns):
            raise UserError(f"rounding=gptq: no Hessian that fits {layer}; calibrate this model")
        return torch.from_numpy(self._hessians[layer]).double()

    @cached_property
    def _hessians(self) -> Mapping[str, npt.NDArray[np.float32]]:
        assert self.gather is not None
        return self.gather()


def _group_length(channels: int, group_size: int | None) -> int:
    """The largest group that divides the channels; all channels if there is none."""
    length = group_size or channels
    while channels % length and length > _SMALLEST_GROUP:
        length //= 2
    return channels if channels % length else length


def _bounds(bits: int) -> tuple[int, int]:
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _nearest(values: Tensor, scales: Tensor, bits: int) -> Tensor:
    return (values / scales).round().clamp(*_bounds(bits))


def _scales(groups: Tensor, bits: int, importance: Tensor | None = None) -> Tensor:
    """Scale of least squared error for each group ``[..., length]``, ``[..., 1]``.

    It may be negative: integers reach one step further on one side of zero, and the sign chooses the side.

    Args:
        groups: Weights.
        bits: Bits of the integers.
        importance: What a squared error counts for, ``[length]``; none counts all alike.
    """
    widest = groups.abs().amax(-1, keepdim=True).clamp(min=1e-12) / _bounds(bits)[1]
    best, chosen = torch.full_like(widest, torch.inf), widest
    for share in torch.linspace(_LEAST, 1, _CANDIDATES).tolist():
        for sign in (1, -1):
            scales = sign * share * widest
            squares = (_nearest(groups, scales, bits) * scales - groups).square()
            loss = (squares if importance is None else squares * importance).sum(-1, keepdim=True)
            chosen, best = torch.where(loss < best, scales, chosen), torch.minimum(loss, best)
    return chosen


def _gptq(weight: Tensor, hessian: Tensor, bits: int, length: int) -> tuple[Tensor, Tensor]:
    """Integers ``[out, columns]`` and scales ``[out, columns / length]``."""
    weight, size = weight.clone(), weight.shape[1]
    silent = hessian.diagonal() == 0
    hessian[silent, silent] = 1  # an input that is always zero leaves its weights to the nearest integer
    hessian.diagonal().add_(_DAMPING * hessian.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    inverse = torch.linalg.cholesky(inverse, upper=True).float()
    steps, scales = torch.zeros_like(weight), []
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        errors = torch.zeros(len(weight), stop - start)
        for column in range(start, stop):
            if column % length == 0:
                pending = slice(column, column + length)
                scales.append(_scales(weight[:, pending], bits, inverse.diagonal()[pending] ** -2))
            scale = scales[-1]
            steps[:, column] = _nearest(weight[:, column : column + 1], scale, bits)[:, 0]
            lost = (weight[:, column] - steps[:, column] * scale[:, 0]) / inverse[column, column]
            weight[:, column:stop] -= lost[:, None] * inverse[column, column:stop]
            errors[:, column - start] = lost
        weight[:, stop:] -= errors @ inverse[start:stop, stop:]
    return steps, torch.cat(scales, dim=1)
