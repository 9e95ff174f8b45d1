"""ECAPA-TDNN, described for the registry of architectures."""

from speakerquant.architectures.ecapa_tdnn.families import EcapaTdnnFamilies
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn, EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.architectures.speaker_network import Architecture

ECAPA_TDNN = Architecture(
    name="ecapa_tdnn",
    config=EcapaTdnnConfig,
    build=EcapaTdnn,
    # Table 2 of the paper: everything but the second and third SE-Res2Block.
    named_masks={
        "paper": ("input_conv", "se_res2block1", "aggregation_conv", "attentive_pooling", "embedding_linear")
    },
    families=EcapaTdnnFamilies(),
    published=PUBLISHED,
)
