"""Units: the parts of a network that a mask assigns a precision to."""

from collections.abc import Iterator, Mapping
from enum import StrEnum

from torch import nn

QuantizableLayer = nn.Conv1d | nn.Linear
"""The kinds of layers whose weights can be quantized."""


class Granularity(StrEnum):
    """The size of the units: stages of the network, such as blocks, or single layers."""

    block = "block"
    layer = "layer"


class Units(Mapping[str, tuple[str, ...]]):
    """An immutable mapping, in network order, from a unit's name to the layers (module names) it owns."""

    def __init__(self, layers: Mapping[str, tuple[str, ...]]) -> None:
        self._layers = dict(layers)

    def __getitem__(self, unit: str) -> tuple[str, ...]:
        return self._layers[unit]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def quantizable_layers(model: nn.Module) -> dict[str, QuantizableLayer]:
    """Return every convolution and linear layer by its module name, in network order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizableLayer)}


def block_units(model: nn.Module) -> Units:
    """Return one unit for every direct child of the network that has weights to quantize."""
    layers: dict[str, tuple[str, ...]] = {}
    for layer in quantizable_layers(model):
        unit = layer.split(".", 1)[0]
        layers[unit] = (*layers.get(unit, ()), layer)
    return Units(layers)


def layer_units(model: nn.Module) -> Units:
    """Return one unit for every layer, under the layer's module name."""
    return Units({layer: (layer,) for layer in quantizable_layers(model)})


def enclosing(unit: str) -> list[str]:
    """Return the names of the modules that the unit lies in, from the outermost to its own."""
    parts = unit.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
