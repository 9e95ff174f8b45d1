"""The interface of speaker networks: all that the rest of the project knows of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from speakerquant.architectures.published_results import PublishedResults
from speakerquant.architectures.units import Granularity, Units, block_units, layer_units
from speakerquant.audio.front_end import FrontEnd

Weights = Mapping[str, Tensor]
"""The tensors of a state dict by name."""


class SpeakerNetwork(nn.Module, ABC):
    """A network from features ``[B, n_mels, T]`` to speaker embeddings ``[B, embedding_dim]``.

    Its direct children that hold convolutions or linear layers are its blocks; they are defined in the order
    in which they run.
    """

    @property
    @abstractmethod
    def config(self) -> Any:
        """The settings that the network was made from: a dataclass of JSON-representable values."""

    @property
    @abstractmethod
    def n_mels(self) -> int:
        """Number of mel bands of the features."""

    @property
    @abstractmethod
    def embedding_dim(self) -> int:
        """Length of an embedding."""

    @property
    @abstractmethod
    def min_frames(self) -> int:
        """Smallest number of frames that the network can embed."""

    def units(self, granularity: Granularity = Granularity.block) -> Units:
        """The units that masks assign precisions to, in the order in which the network runs them."""
        return {Granularity.block: block_units, Granularity.layer: layer_units}[granularity](self)


@dataclass(frozen=True)
class ForeignCheckpoint:
    """A public checkpoint in our form.

    Attributes:
        config: Settings that shape the network.
        weights: Weights by the names that our network gives them.
        front_end: Front end that the network was trained with.
    """

    config: Any
    weights: Weights
    front_end: FrontEnd


class CheckpointFamilies(Protocol):
    """The families of public checkpoints that one architecture can load."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the families, as ``model.family`` takes them."""

    def recognize(self, weights: Weights) -> str:
        """Return the name of the family whose checkpoints name their layers so.

        Raises:
            UserError: no family does, or several do; the message says which comes nearest.
        """

    def convert(self, weights: Weights, family: str) -> ForeignCheckpoint:
        """Return the checkpoint of that family in our form.

        Raises:
            UserError: a name is unknown or missing, or the shapes do not belong to this architecture.
        """

    def nearest_format(self, weights: Weights, preferred: str) -> str:
        """Say in words which family knows most of these names; of equals, the preferred one."""


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
