"""ECAPA-TDNN, described for the registry of architectures."""

from speakerquant.architectures.ecapa_tdnn.families import ECAPA_TDNN_FAMILIES
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn, EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.architectures.speaker_network import Architecture

ECAPA_TDNN = Architecture(
    name="ecapa_tdnn",
    config=EcapaTdnnConfig,
    build=EcapaTdnn,
    named_masks={"paper": tuple(sorted(PUBLISHED.proposed_units))},
    families=ECAPA_TDNN_FAMILIES,
    published=PUBLISHED,
)
