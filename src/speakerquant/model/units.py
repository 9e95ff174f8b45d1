"""Units: the parts of a network that a mask switches between precisions."""

from collections.abc import Iterator, Mapping

from torch import nn


class Units(Mapping[str, tuple[str, ...]]):
    """Immutable mapping, in network order, from a unit's name to the layers (module names) it owns."""

    def __init__(self, layers: Mapping[str, tuple[str, ...]]) -> None:
        self._layers = dict(layers)

    def __getitem__(self, unit: str) -> tuple[str, ...]:
        return self._layers[unit]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def quantizable_layers(model: nn.Module) -> dict[str, nn.Conv1d | nn.Linear]:
    """Every convolution and linear layer by module name, in network order."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Conv1d | nn.Linear)
    }


def block_units(model: nn.Module) -> Units:
    """The rows of the paper's table: one unit per direct child of the network with weights to quantize."""
    layers: dict[str, tuple[str, ...]] = {}
    for layer in quantizable_layers(model):
        unit = layer.split(".", 1)[0]
        layers[unit] = (*layers.get(unit, ()), layer)
    return Units(layers)


def layer_units(model: nn.Module) -> Units:
    """The finest granularity: one unit per layer."""
    return Units({layer: (layer,) for layer in quantizable_layers(model)})
