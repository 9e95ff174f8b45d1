"""CAM++, described for the registry of architectures."""

from typing import TYPE_CHECKING

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.campplus.config import CamPlusPlusConfig

if TYPE_CHECKING:
    from speakerquant.architectures.checkpoint_families import CheckpointFamilies
    from speakerquant.architectures.speaker_network import SpeakerNetwork


def _build(config: CamPlusPlusConfig) -> "SpeakerNetwork":
    from speakerquant.architectures.campplus.network import CamPlusPlus

    return CamPlusPlus(config)


def _families() -> "CheckpointFamilies":
    from speakerquant.architectures.campplus.families import CAMPPLUS_FAMILIES

    return CAMPPLUS_FAMILIES


CAMPPLUS = Architecture(name="campplus", config=CamPlusPlusConfig, build=_build, families=_families)
