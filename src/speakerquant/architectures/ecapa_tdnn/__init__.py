"""ECAPA-TDNN, described for the registry of architectures."""

from typing import TYPE_CHECKING

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED

if TYPE_CHECKING:
    from speakerquant.architectures.checkpoint_families import CheckpointFamilies
    from speakerquant.architectures.speaker_network import SpeakerNetwork


def _build(config: EcapaTdnnConfig) -> "SpeakerNetwork":
    from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn

    return EcapaTdnn(config)


def _families() -> "CheckpointFamilies":
    from speakerquant.architectures.ecapa_tdnn.families import ECAPA_TDNN_FAMILIES

    return ECAPA_TDNN_FAMILIES


ECAPA_TDNN = Architecture(
    name="ecapa_tdnn",
    config=EcapaTdnnConfig,
    build=_build,
    named_masks={"paper": tuple(sorted(PUBLISHED.proposed_units))},
    families=_families,
    published=PUBLISHED,
)
