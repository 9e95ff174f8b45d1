"""The interface of speaker networks: all that the rest of the project knows of them."""

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from speakerquant.architectures.interface import Interface
from speakerquant.architectures.layers import quantizable_layers, unreached_layers
from speakerquant.architectures.units import Granularity, Units


class SpeakerNetwork(nn.Module, ABC):
    """A network from features ``[B, n_mels, T]`` to speaker embeddings ``[B, embedding_dim]``.

    Its direct children that hold convolutions or linear layers are its blocks; they are defined in the order
    in which they run.

    Attributes:
        config: The settings that the network was made from: a dataclass of JSON-representable values, among
            them ``n_mels``, and ``embedding_dim`` unless the network finds it out itself.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def n_mels(self) -> int:
        """Number of mel bands of the features."""
        number: int = self.config.n_mels
        return number

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding."""
        length: int = self.config.embedding_dim
        return length

    @property
    @abstractmethod
    def min_frames(self) -> int:
        """Smallest number of frames that the network can embed."""

    def most_frames(self, wanted: int) -> int:
        """Largest number of frames, up to so many, that the network can embed."""
        return wanted

    @property
    def interface(self) -> Interface:
        """How the file that the network came as was asked; the project's own way, if it was none."""
        return Interface()

    def units(self, granularity: Granularity = Granularity.block) -> Units:
        """The units that masks assign precisions to, in the order in which the network runs them."""
        units: dict[str, tuple[str, ...]] = {}
        for layer in quantizable_layers(self):
            unit = layer if granularity is Granularity.layer else layer.split(".", 1)[0]
            units[unit] = (*units.get(unit, ()), layer)
        return Units(units, unreached_layers(self))
