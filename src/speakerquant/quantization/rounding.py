"""Weights with fitted scales: integers of few bits, one by one or in groups, and how values become them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save_file
from torch import Tensor

from speakerquant import schema_versions
from speakerquant.architectures.layers import LayerGeometry
from speakerquant.cache import Cache
from speakerquant.errors import UserError
from speakerquant.files import atomic_path, digest
from speakerquant.quantization.coordinate_descent import descended
from speakerquant.quantization.precision import SMALLEST_GROUP, WeightFormat
from speakerquant.quantization.rounding_method import RoundingMethod

Array = npt.NDArray[np.float32]
Bounds = tuple[int, int]
"""The smallest integer and the largest."""

_CANDIDATES = 40  # scales tried for a group, from _LEAST of the one without clipping up to that
_LEAST = 0.3
_DAMPINGS = (0.01, 0.1, 1.0)  # of the Hessian's mean diagonal; GPTQ's reference has the first
_TRIED = 32  # output channels that a damping is tried on
_SWEEPS, _TRIED_SWEEPS = 6, 2  # of the descent; two tell dampings apart as six do
_BLOCK = 128  # columns whose errors are passed on together
_CHUNK = 65536  # weights by scales that are tried at once: they stay in the processor's cache


@dataclass(frozen=True)
class IntegerWeights:
    """Weights of one layer as integers.

    Attributes:
        codes: The integers, ``[out, in, *kernel]``, int8.
        scales: What the integer 1 stands for; may be negative. Float32 ``[out, groups of in, *kernel]``, or
            ``[out]`` where an output channel has one scale.
    """

    codes: npt.NDArray[np.int8]
    scales: Array

    def save(self, path: Path) -> None:
        """Write them as one safetensors file, whole or not at all."""
        with atomic_path(path) as part:
            save_file({"codes": self.codes, "scales": self.scales}, part)

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
    def group_length(self) -> int | None:
        """Input channels that share a scale; none where an output channel has one scale."""
        return None if self.scales.ndim == 1 else int(self.codes.shape[1] // self.scales.shape[1])

    @property
    def values(self) -> Array:
        """What the integers stand for, in the shape of ``codes``."""
        if self.group_length is None:
            return self.codes * self.scales.reshape(-1, *[1] * (self.codes.ndim - 1))
        return self.codes.astype(np.float32) * self.scales.repeat(self.group_length, axis=1)


class WeightRounding(Protocol):
    """How weights become integers whose scales are fitted to them."""

    @property
    def origin(self) -> object:
        """What determines the integers beside layer and format, in JSON-representable values."""

    def integers(
        self, layer: str, weight: Array, geometry: LayerGeometry, stored: WeightFormat
    ) -> IntegerWeights:
        """The integers of a layer's weight.

        Args:
            layer: Name of the layer.
            weight: ``[out, in, *kernel]``.
            geometry: Of the layer.
            stored: Bits and groups.

        Raises:
            UserError: the layer's weight cannot be rounded.
        """


@dataclass(frozen=True, eq=False)
class KnownIntegers:
    """Integers that are known already, such as trained ones.

    Attributes:
        by_layer: Those of each layer, in the one format that they are asked for in.
        origin: What determines them, in JSON-representable values.
    """

    by_layer: Mapping[str, IntegerWeights]
    origin: object

    def integers(
        self, layer: str, weight: Array, geometry: LayerGeometry, stored: WeightFormat
    ) -> IntegerWeights:
        """The integers of the layer, whatever its weight."""
        return self.by_layer[layer]


@dataclass(frozen=True, eq=False)
class Rounding:
    """How weights become integers whose scales are fitted to them.

    Scales have the least squared error over the weights of their group, which may clip the largest. Then each
    weight takes the nearest integer; or, with Hessians, columns are rounded one after the other, and what a
    column loses the later ones make up for (Frantar et al.: "GPTQ: Accurate post-training quantization for
    generative pre-trained transformers", ICLR 2023), with the scale of a group chosen when it is reached; or
    all of them are gone through again until nothing moves (:mod:`.coordinate_descent`).

    A Hessian is damped, the more the fewer inputs it was gathered from: by what rounds best, by the Hessian
    of recordings held out, some of the layer's output channels.

    Attributes:
        method: What decides an integer; all but ``nearest`` need ``gather``.
        gather: Gives what :func:`speakerquant.quantization.hessians.gather_hessians` finds, once a layer is
            to be rounded.
        cache: Keeps integers once they are made; none keeps them in this object only.
        identity: Gives what determines them beside method, layer and format: weights and Hessians.
    """

    method: RoundingMethod = RoundingMethod.nearest
    gather: Callable[[], Mapping[str, npt.NDArray[np.float32]]] | None = None
    cache: Cache | None = None
    identity: Callable[[], object] = lambda: None
    _made: dict[tuple[str, WeightFormat], IntegerWeights] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def origin(self) -> tuple[str, object]:
        """What determines the integers beside layer and format."""
        return self.method.name, self.identity()

    def integers(
        self, layer: str, weight: Array, geometry: LayerGeometry, stored: WeightFormat
    ) -> IntegerWeights:
        """The integers of a layer's weight; made once for each layer and format.

        Args:
            layer: Name of the layer.
            weight: ``[out, in, *kernel]``.
            geometry: Of the layer.
            stored: Bits and groups.

        Raises:
            UserError: the Hessian of the layer is missing, does not fit it, or says nothing.
        """
        key = (layer, stored)
        if key not in self._made:
            self._made[key] = self._kept(layer, weight, geometry, stored)
        return self._made[key]

    def _kept(
        self, layer: str, weight: Array, geometry: LayerGeometry, stored: WeightFormat
    ) -> IntegerWeights:
        if self.cache is None:
            return self._rounded(layer, weight, geometry, stored)
        key = digest(
            *(schema_versions.ROUNDED_WEIGHTS, *self.origin),
            *(layer, stored.bits, stored.group_size),
        )

        def make(path: Path) -> None:
            self._rounded(layer, weight, geometry, stored).save(path)

        return IntegerWeights.load(self.cache.get("rounded_weights", key, make, suffix=".safetensors"))

    def _rounded(
        self, layer: str, weight: Array, geometry: LayerGeometry, stored: WeightFormat
    ) -> IntegerWeights:
        columns = geometry.columns(torch.from_numpy(np.array(weight)))
        length = geometry.group_length(stored.group_size, SMALLEST_GROUP)
        sharing = length or columns.shape[1]  # columns that share a scale
        if self.method is RoundingMethod.nearest:
            groups = columns.reshape(len(columns), -1, sharing)
            scales = _scales(groups, stored.bounds)
            codes, scales = _nearest(groups, scales, stored.bounds).flatten(1), scales[..., 0]
        else:
            parts = columns.chunk(geometry.groups)
            fitted, held_out = self._hessian(layer, geometry)
            damping = self._damping(parts, fitted, held_out, stored.bounds, sharing)
            rounded = [
                self._by_hessian(part[None], _damped(hessian, damping)[None], stored.bounds, sharing)
                for part, hessian in zip(parts, fitted.double() + held_out.double(), strict=True)
            ]
            codes, scales = (torch.cat(each, dim=1)[0] for each in zip(*rounded, strict=True))
        return IntegerWeights(
            geometry.from_columns(codes).numpy().astype(np.int8),
            (scales[:, 0] if length is None else geometry.from_columns(scales)).contiguous().numpy(),
        )

    def _damping(
        self, parts: Sequence[Tensor], fitted: Tensor, held_out: Tensor, bounds: Bounds, length: int
    ) -> float:
        """The damping of least error under the Hessian ``[groups, columns, columns]`` that was held out.

        Args:
            parts: Columns of each group of channels.
            fitted: The Hessian to round by.
            held_out: The one to judge by.
            bounds: Of the integers.
            length: Columns that share a scale.
        """
        if not held_out.any():
            return _DAMPINGS[0]
        tried = range(0, len(parts), -(-len(parts) // _TRIED))
        most = -(-_TRIED // len(tried))
        sampled = torch.stack([parts[i][:: -(-len(parts[i]) // most)] for i in tried])
        judging = held_out[[*tried]].double()

        def loss(damping: float) -> float:
            damped = torch.stack([_damped(fitted[i], damping) for i in tried])
            codes, scales = self._by_hessian(sampled, damped, bounds, length, _TRIED_SWEEPS)
            lost = (codes * scales.repeat_interleave(length, 2) - sampled).double()
            return float(((lost @ judging) * lost).sum())

        # One after the other: together they would hold three times the largest layer's matrices.
        return min(_DAMPINGS, key=loss)

    def _by_hessian(
        self, weights: Tensor, hessians: Tensor, bounds: Bounds, length: int, sweeps: int = _SWEEPS
    ) -> tuple[Tensor, Tensor]:
        codes, scales = _gptq(weights, hessians, bounds, length)
        if self.method is RoundingMethod.descent:
            nearest = partial(_integers, bounds=bounds)
            each = zip(weights, hessians, codes, scales, strict=True)
            descents = [descended(*matrices, nearest, sweeps) for matrices in each]
            codes, scales = (torch.stack(each) for each in zip(*descents, strict=True))
        return codes, scales

    def _hessian(self, layer: str, geometry: LayerGeometry) -> Tensor:
        size = geometry.num_taps * geometry.channels_seen
        hessian = self._hessians.get(layer)
        if hessian is None or hessian.shape != (2, geometry.groups, size, size):
            raise UserError(
                f"rounding={self.method.name}: no Hessian that fits {layer}; calibrate this model"
            )
        return torch.from_numpy(hessian)

    @cached_property
    def _hessians(self) -> Mapping[str, npt.NDArray[np.float32]]:
        assert self.gather is not None
        return self.gather()


def _integers(steps: Tensor, bounds: Bounds) -> Tensor:
    return steps.round().clamp(*bounds)


def _nearest(values: Tensor, scales: Tensor, bounds: Bounds) -> Tensor:
    return _integers(values / scales, bounds)


def _scales(groups: Tensor, bounds: Bounds, importance: Tensor | None = None) -> Tensor:
    """Scale of least squared error for each group ``[..., length]``, ``[..., 1]``.

    It may be negative where integers reach further on one side of zero: the sign chooses the side.

    Args:
        groups: Weights.
        bounds: Of the integers.
        importance: What a squared error counts for, of a shape that broadcasts to that of the groups; none
            counts all alike.
    """
    rows = groups.reshape(-1, groups.shape[-1])
    together = max(1, _CHUNK // rows.shape[1])
    parts = torch.split(rows, together)
    if importance is None:
        chosen = [_scales_of_rows(part, bounds, None) for part in parts]
    else:
        counts = torch.split(importance.expand(groups.shape).reshape(rows.shape), together)
        chosen = [_scales_of_rows(part, bounds, count) for part, count in zip(parts, counts, strict=True)]
    return torch.cat(chosen).reshape(*groups.shape[:-1], 1)


def _scales_of_rows(rows: Tensor, bounds: Bounds, importance: Tensor | None) -> Tensor:
    widest = rows.abs().amax(-1, keepdim=True).clamp(min=1e-12) / bounds[1]
    shares = torch.linspace(_LEAST, 1, _CANDIDATES)
    candidates = torch.stack([shares, -shares], 1).reshape(-1, 1, 1) * widest
    at_once = max(1, _CHUNK // rows.numel())
    buffer = rows.new_empty(at_once, *rows.shape)
    losses = []
    for scales in torch.split(candidates, at_once):
        squares = torch.div(rows, scales, out=buffer[: len(scales)]).round_().clamp_(*bounds)
        squares.mul_(scales).sub_(rows).square_()
        if importance is not None:
            squares.mul_(importance)
        losses.append(squares.sum(-1, keepdim=True))
    return candidates.gather(0, torch.cat(losses).argmin(0, keepdim=True))[0]


def _damped(hessian: Tensor, damping: float) -> Tensor:
    hessian = hessian.clone()
    silent = hessian.diagonal() == 0
    hessian[silent, silent] = 1  # an input that is always zero leaves its weights to the nearest integer
    hessian.diagonal().add_(damping * hessian.diagonal().mean())
    return hessian


def _gptq(weights: Tensor, hessians: Tensor, bounds: Bounds, length: int) -> tuple[Tensor, Tensor]:
    """Integers and scales of matrices that are rounded side by side.

    Args:
        weights: ``[matrices, out, columns]``.
        hessians: Damped, ``[matrices, columns, columns]``.
        bounds: Of the integers.
        length: Columns that share a scale.

    Returns:
        ``[matrices, out, columns]`` and ``[matrices, out, columns / length]``.
    """
    weights, size = weights.clone(), weights.shape[2]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessians))
    inverse = torch.linalg.cholesky(inverse, upper=True).float()
    importance = inverse.diagonal(dim1=1, dim2=2)[:, None] ** -2
    codes, scales = torch.zeros_like(weights), []
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        errors = torch.zeros(*weights.shape[:2], stop - start)
        for column in range(start, stop):
            if column % length == 0:
                pending = slice(column, column + length)
                scales.append(_scales(weights[..., pending], bounds, importance[..., pending]))
            scale = scales[-1]
            codes[..., column] = _nearest(weights[..., column : column + 1], scale, bounds)[..., 0]
            lost = weights[..., column] - codes[..., column] * scale[..., 0]
            lost /= inverse[:, column, column, None]
            weights[..., column:stop] -= lost[..., None] * inverse[:, None, column, column:stop]
            errors[..., column - start] = lost
        weights[..., stop:] -= errors @ inverse[:, start:stop, stop:]
    return codes, torch.cat(scales, dim=2)
