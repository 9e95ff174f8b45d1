"""Units: the parts of a network that a mask assigns a precision to."""

from collections.abc import Iterator, Mapping
from enum import StrEnum

from torch import nn

from speakerquant.architectures.layers import UnreachedLayer, quantizable_layers, unreached_layers


class Granularity(StrEnum):
    """The size of the units: stages of the network, such as blocks, or single layers."""

    block = "block"
    layer = "layer"


class Units(Mapping[str, tuple[str, ...]]):
    """An immutable mapping, in network order, from a unit's name to the layers (module names) it owns.

    Attributes:
        unreached: The layers that are in no unit, as they cannot be quantized, by module name.
    """

    def __init__(
        self, layers: Mapping[str, tuple[str, ...]], unreached: Mapping[str, UnreachedLayer] | None = None
    ) -> None:
        self._layers = dict(layers)
        self.unreached = dict(unreached or {})

    def __getitem__(self, unit: str) -> tuple[str, ...]:
        return self._layers[unit]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def block_units(model: nn.Module) -> Units:
    """Return one unit for every direct child of the network that has weights to quantize."""
    layers: dict[str, tuple[str, ...]] = {}
    for layer in quantizable_layers(model):
        unit = layer.split(".", 1)[0]
        layers[unit] = (*layers.get(unit, ()), layer)
    return Units(layers, unreached_layers(model))


def layer_units(model: nn.Module) -> Units:
    """Return one unit for every layer, under the layer's module name."""
    return Units({layer: (layer,) for layer in quantizable_layers(model)}, unreached_layers(model))


def enclosing(unit: str) -> list[str]:
    """Return the names of the modules that the unit lies in, from the outermost to its own."""
    parts = unit.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
