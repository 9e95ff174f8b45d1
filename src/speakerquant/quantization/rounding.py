"""Weights with fitted scales: integers of few bits, one by one or in groups, and how values become them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save_file
from threadpoolctl import threadpool_limits
from torch import Tensor

from speakerquant import schema_versions
from speakerquant.architectures.layers import LayerGeometry
from speakerquant.cache import Cache
from speakerquant.errors import UserError
from speakerquant.files import digest
from speakerquant.quantization.coordinate_descent import descended
from speakerquant.quantization.fitted_scales import Bounds, fitted_scales
from speakerquant.quantization.gptq import rounded_in_turn
from speakerquant.quantization.precision import SMALLEST_GROUP, WeightFormat
from speakerquant.quantization.rounding_method import RoundingMethod

Array = npt.NDArray[np.float32]
_DAMPINGS = (0.01, 0.1, 1.0)  # of the Hessian's mean diagonal; GPTQ's reference has the first
_TRIED = 32  # output channels that a damping is tried on
_SWEEPS, _TRIED_SWEEPS = 6, 2  # of the descent; two tell dampings apart as six do
_SMALL = 1 << 20  # entries of Hessians that all dampings are tried on side by side


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
        """Write them as one safetensors file."""
        save_file({"codes": self.codes, "scales": self.scales}, path)

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

        return self.cache.read("rounded_weights", key, make, IntegerWeights.load, ".safetensors")

    def _rounded(
        self, layer: str, weight: Array, geometry: LayerGeometry, stored: WeightFormat
    ) -> IntegerWeights:
        columns = geometry.columns(torch.from_numpy(np.array(weight)))
        length = geometry.group_length(stored.group_size, SMALLEST_GROUP)
        sharing = length or columns.shape[1]  # columns that share a scale
        if self.method is RoundingMethod.nearest:
            groups = columns.reshape(len(columns), -1, sharing)
            scales = fitted_scales(groups, stored.bounds)
            codes = (groups / scales).round().clamp(*stored.bounds).flatten(1)
            scales = scales[..., 0]
        else:
            parts = torch.stack(columns.chunk(geometry.groups))
            fitted, held_out = self._hessian(layer, geometry)
            with threadpool_limits(1, "blas"):  # products of a group are small
                damping = self._damping(parts, fitted, held_out, stored.bounds, sharing)
                hessians = _damped(fitted.double() + held_out.double(), damping)
                rounded = self._by_hessian(parts, hessians, stored.bounds, sharing)
            codes, scales = (each.flatten(0, 1) for each in rounded)
        return IntegerWeights(
            geometry.from_columns(codes).numpy().astype(np.int8),
            (scales[:, 0] if length is None else geometry.from_columns(scales)).contiguous().numpy(),
        )

    def _damping(self, parts: Tensor, fitted: Tensor, held_out: Tensor, bounds: Bounds, length: int) -> float:
        """The damping of least error under the Hessian ``[groups, columns, columns]`` that was held out.

        Args:
            parts: Columns of each group of channels, ``[groups, out, columns]``.
            fitted: The Hessian to round by.
            held_out: The one to judge by.
            bounds: Of the integers.
            length: Columns that share a scale.
        """
        if not held_out.any():
            return _DAMPINGS[0]
        tried = slice(None, None, -(-len(parts) // _TRIED))
        weights, hessians, judging = parts[tried], fitted[tried].double(), held_out[tried].double()
        most = -(-_TRIED // len(weights))
        weights = weights[:, :: -(-weights.shape[1] // most)]

        def losses(dampings: Sequence[float]) -> list[float]:
            damped = torch.cat([_damped(hessians, damping) for damping in dampings])
            repeated = weights.repeat(len(dampings), 1, 1)
            codes, scales = self._by_hessian(repeated, damped, bounds, length, _TRIED_SWEEPS)
            lost = (codes * scales.repeat_interleave(length, 2) - repeated).double()
            lost = lost.reshape(len(dampings), *weights.shape)
            found: list[float] = ((lost @ judging) * lost).sum((1, 2, 3)).tolist()
            return found

        # Side by side small matrices take a third of the time; large ones would take three times the memory.
        together = [_DAMPINGS] if hessians.numel() <= _SMALL else [[damping] for damping in _DAMPINGS]
        found = [loss for dampings in together for loss in losses(dampings)]
        return _DAMPINGS[int(np.argmin(found))]

    def _by_hessian(
        self, weights: Tensor, hessians: Tensor, bounds: Bounds, length: int, sweeps: int = _SWEEPS
    ) -> tuple[Tensor, Tensor]:
        """Integers and scales of matrices, as :func:`rounded_in_turn` returns them."""
        codes, scales = rounded_in_turn(weights, hessians, bounds, length)
        if self.method is RoundingMethod.descent:
            codes, scales = descended(weights, hessians, codes, scales, bounds, sweeps)
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


def _damped(hessians: Tensor, damping: float) -> Tensor:
    """Hessians ``[matrices, columns, columns]`` with a share of their mean diagonal added to it.

    An input that is always zero thereby leaves its weights to the nearest integer.
    """
    hessians = hessians.clone()
    diagonals = hessians.diagonal(dim1=1, dim2=2)
    means = diagonals.mean(1, keepdim=True)
    diagonals += damping * means.where(means > 0, 1)  # a group of channels may see nothing but zeros
    return hessians
