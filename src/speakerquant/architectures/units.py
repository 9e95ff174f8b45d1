"""Units: the parts of a network that a mask assigns a precision to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Granularity(StrEnum):
    """The size of the units: stages of the network, such as blocks, or single layers."""

    block = "block"
    layer = "layer"


@dataclass(frozen=True)
class UnreachedLayer:
    """A layer that no mask reaches.

    Attributes:
        kind: What it is, such as ``LSTM``.
        num_weights: Values in its matrices.
    """

    kind: str
    num_weights: int


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


def enclosing(unit: str) -> list[str]:
    """Return the names of the modules that the unit lies in, from the outermost to its own."""
    parts = unit.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
