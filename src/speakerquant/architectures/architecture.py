"""How the registry describes a kind of network; what is heavy is imported when it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from speakerquant.architectures.published_results import PublishedResults

if TYPE_CHECKING:
    from speakerquant.architectures.checkpoint_families import CheckpointFamilies
    from speakerquant.architectures.speaker_network import SpeakerNetwork


@dataclass(frozen=True)
class Architecture:
    """A kind of network, as the registry knows it.

    Attributes:
        name: Name in configurations and checkpoints.
        config: Dataclass of the settings that shape a network.
        build: Function that makes a network with random weights from such settings.
        named_masks: Units that each mask of its own quantizes, by its name; every unit has one anyway.
        families: Function that returns the families of public checkpoints that can be loaded, if any can.
        published: What others have published of it, if reports are to show that beside its results.
    """

    name: str
    config: type[Any]
    build: Callable[[Any], "SpeakerNetwork"]
    named_masks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    families: Callable[[], "CheckpointFamilies"] | None = None
    published: PublishedResults | None = None
