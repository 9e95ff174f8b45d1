"""The interface of speaker networks: all that the rest of the project knows of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from speakerquant.architectures.checkpoint_families import CheckpointFamilies
from speakerquant.architectures.interface import Interface
from speakerquant.architectures.published_results import PublishedResults
from speakerquant.architectures.units import Granularity, Units, block_units, layer_units


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

    @property
    def interface(self) -> Interface:
        """How the file that the network came as was asked; the project's own way, if it was none."""
        return Interface()

    def units(self, granularity: Granularity = Granularity.block) -> Units:
        """The units that masks assign precisions to, in the order in which the network runs them."""
        return {Granularity.block: block_units, Granularity.layer: layer_units}[granularity](self)


@dataclass(frozen=True)
class Architecture:
    """A kind of network, as the registry knows it.

    Attributes:
        name: Name in configurations and checkpoints.
        config: Dataclass of the settings that shape a network.
        build: Function that makes a network with random weights from such settings.
        named_masks: Units that each mask of its own quantizes, by its name; every unit has one anyway.
        families: Families of public checkpoints that can be loaded, if there are any.
        published: What others have published of it, if reports are to show that beside its results.
    """

    name: str
    config: type[Any]
    build: Callable[[Any], SpeakerNetwork]
    named_masks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    families: CheckpointFamilies | None = None
    published: PublishedResults | None = None
