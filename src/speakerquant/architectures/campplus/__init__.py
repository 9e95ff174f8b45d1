"""CAM++, described for the registry of architectures."""

from speakerquant.architectures.campplus.families import CAMPPLUS_FAMILIES
from speakerquant.architectures.campplus.network import CamPlusPlus, CamPlusPlusConfig
from speakerquant.architectures.speaker_network import Architecture

CAMPPLUS = Architecture(
    name="campplus", config=CamPlusPlusConfig, build=CamPlusPlus, families=CAMPPLUS_FAMILIES
)
