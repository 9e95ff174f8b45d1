"""The network of a mask whose integers, scales, biases and normalisations can be trained."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from speakerquant.architectures.layers import LayerGeometry, QuantizableLayer, quantizable_layers
from speakerquant.quantization.fitted_scales import Bounds
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.prepared import PreparedModel
from speakerquant.quantization.rounding import Array, IntegerWeights, KnownIntegers
from speakerquant.quantization.scales import weight_scales


class Student:
    """The simulation of a mask, trainable but for statistics and for weights that are no integers.

    Args:
        prepared: The network.
        mask: The mask.

    Attributes:
        network: The simulation, in evaluation mode.

    Raises:
        UserError: ranges or Hessians do not fit the network.
    """

    def __init__(self, prepared: PreparedModel, mask: Mask) -> None:
        self._prepared, self._mask = prepared, mask
        self.network = prepared.simulate(mask)
        for parameter in self.network.parameters():
            parameter.requires_grad_(parameter.dim() <= 1)  # biases and normalisations
        self._weights = {
            name: _learned(layer, *self._scales_and_bounds(name))
            for name, layer in quantizable_layers(self.network).items()
            if mask.layers[name].weights is not None
        }

    def _scales_and_bounds(self, name: str) -> tuple[Array, Bounds, bool]:
        """Scales and bounds of a layer's integers, and whether scales may change."""
        layer = quantizable_layers(self._prepared.model.network)[name]
        precision = self._mask.layers[name].within(self._prepared.max_weight_bits)
        weight = layer.weight.detach().cpu().numpy()
        stored = precision.weights
        assert stored is not None
        if precision.has_fitted_scales:
            integers = self._prepared.rounding.integers(name, weight, LayerGeometry.of(layer), stored)
            return integers.scales, stored.bounds, True
        scales = weight_scales(name, weight, self._prepared.table, stored.bounds[1])
        return scales, stored.bounds, False

    @property
    def learned(self) -> dict[str, nn.Parameter]:
        """All that is trained, by name."""
        return {name: each for name, each in self.network.named_parameters() if each.requires_grad}

    @property
    def latent_weights(self) -> list[nn.Parameter]:
        """What integers are rounded from, in steps between two integers."""
        return [weight.latent for weight in self._weights.values()]

    @property
    def growths(self) -> list[nn.Parameter]:
        """By which share scales have grown."""
        return [weight.growth for weight in self._weights.values() if weight.growth.requires_grad]

    @property
    def offsets(self) -> list[nn.Parameter]:
        """The rest: biases and normalisations."""
        integers = {id(each) for each in (*self.latent_weights, *self.growths)}
        return [each for each in self.learned.values() if id(each) not in integers]

    def load(self, learned: Mapping[str, Tensor]) -> None:
        """Take over what was learned.

        Raises:
            ValueError: it is of another network.
        """
        own = self.learned
        if {name: each.shape for name, each in own.items()} != {n: each.shape for n, each in learned.items()}:
            raise ValueError("of another network")
        with torch.no_grad():
            for name, value in learned.items():
                own[name].copy_(value)

    def keep_in_bounds(self) -> None:
        """Bring back the latent weights that have left the bounds of their integers."""
        with torch.no_grad():
            for weight in self._weights.values():
                weight.latent.clamp_(*weight.bounds)

    def prepared(self, origin: str) -> PreparedModel:
        """A network that gives, under the mask, what the student gives now.

        Args:
            origin: Digest of what determines it.
        """
        network = copy.deepcopy(self._prepared.model.network)
        with torch.no_grad():
            parameters = dict(network.named_parameters())
            for name, value in self.learned.items():
                if name in parameters:
                    parameters[name].copy_(value)
            layers, trained = quantizable_layers(network), quantizable_layers(self.network)
            for name in self._weights:
                layers[name].weight.copy_(trained[name].weight)
        integers = {
            name: weight.integers
            for name, weight in self._weights.items()
            if self._mask.layers[name].has_fitted_scales
        }
        model = replace(self._prepared.model, network=network, digest=origin)
        return replace(self._prepared, model=model, rounding=KnownIntegers(integers, origin))


@dataclass(frozen=True)
class _LearnedWeight:
    """What is learned of a layer's weight.

    Attributes:
        latent: What its integers are rounded from, in steps between them, ``[out, in, *kernel]``.
        growth: By which share its scales have grown.
        scales: The scales that it began with, ``[out]`` or ``[out, groups of in, *kernel]``.
        bounds: Of the integers.
    """

    latent: nn.Parameter
    growth: nn.Parameter
    scales: Array
    bounds: Bounds

    @property
    def integers(self) -> IntegerWeights:
        """The integers as they are now, with their scales."""
        codes = self.latent.detach().round().to(torch.int8).cpu().numpy()
        growth = self.growth.detach().cpu().numpy().reshape(self.scales.shape)
        return IntegerWeights(codes, self.scales * (1 + growth))


def _learned(layer: QuantizableLayer, scales: Array, bounds: Bounds, learns_scales: bool) -> _LearnedWeight:
    """Have a layer whose weight is made of integers learn these, and scales if they may change."""
    axes = scales if scales.ndim > 1 else scales.reshape(-1, *[1] * (layer.weight.dim() - 1))
    parametrize.register_parametrization(layer, "weight", _IntegersTimesScales(torch.from_numpy(axes)))
    latent, growth = layer.get_submodule("parametrizations.weight").parameters()
    latent.requires_grad_(True)
    growth.requires_grad_(learns_scales)
    return _LearnedWeight(latent, growth, scales, bounds)


class _IntegersTimesScales(nn.Module):
    """A weight, as PyTorch's parametrization, of latent weights rounded to integers, and of their scales.

    Rounding passes gradients on as if it changed nothing (Bengio, Léonard, Courville: "Estimating or
    propagating gradients through stochastic neurons for conditional computation", 2013).

    Args:
        scales: What the integer 1 stands for at first, ``[out, groups of in, *kernel]``; an axis of length 1
            shares one.
    """

    def __init__(self, scales: Tensor) -> None:
        super().__init__()
        self._scales = nn.Buffer(scales)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Latent weight and growth of the scales, of a weight that is made of integers."""
        return (weight / self._of_each(self._scales, weight)).round(), torch.zeros_like(self._scales)

    def forward(self, latent: Tensor, growth: Tensor) -> Tensor:
        integers = latent + (latent.round() - latent).detach()
        return integers * self._of_each(self._scales * (1 + growth), latent)

    def _of_each(self, scales: Tensor, weight: Tensor) -> Tensor:
        return scales.repeat_interleave(weight.shape[1] // scales.shape[1], dim=1)
