"""ECAPA-TDNN, described for the registry of architectures."""

from speakerquant.architectures.ecapa_tdnn.families import EcapaTdnnFamilies
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn, EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.architectures.speaker_network import Architecture

_BLOCKS = (
    "input_conv",
    "se_res2block1",
    "se_res2block2",
    "se_res2block3",
    "aggregation_conv",
    "attentive_pooling",
    "embedding_linear",
)

ECAPA_TDNN = Architecture(
    name="ecapa_tdnn",
    config=EcapaTdnnConfig,
    build=EcapaTdnn,
    blocks=_BLOCKS,
    # Table 2 of the paper: everything but the second and third SE-Res2Block.
    named_masks={"paper": tuple(unit for unit in _BLOCKS if unit not in ("se_res2block2", "se_res2block3"))},
    families=EcapaTdnnFamilies(),
    published=PUBLISHED,
)
