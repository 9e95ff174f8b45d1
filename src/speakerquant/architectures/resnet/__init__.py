"""ResNet, described for the registry of architectures."""

from typing import TYPE_CHECKING

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.resnet.config import ResNetConfig

if TYPE_CHECKING:
    from speakerquant.architectures.checkpoint_families import CheckpointFamilies
    from speakerquant.architectures.speaker_network import SpeakerNetwork


def _build(config: ResNetConfig) -> "SpeakerNetwork":
    from speakerquant.architectures.resnet.network import ResNet

    return ResNet(config)


def _families() -> "CheckpointFamilies":
    from speakerquant.architectures.resnet.families import RESNET_FAMILIES

    return RESNET_FAMILIES


RESNET = Architecture(name="resnet", config=ResNetConfig, build=_build, families=_families)
