"""The public ECAPA-TDNN families: what their state dicts call our layers, and what they do differently.

The families are SpeechBrain (``speechbrain/lobes/models/ECAPA_TDNN.py``), 3D-Speaker
(``speakerlab/models/ecapa_tdnn``, which names its layers likewise), WeSpeaker
(``wespeaker/models/ecapa_tdnn.py``), and the style of voxceleb_trainer (``ECAPA-TDNN`` of TaoRuijie, after
clovaai's trainer).
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from speakerquant.architectures.checkpoint_families import (
    CheckpointFamilies,
    ForeignCheckpoint,
    Layout,
    Weights,
)
from speakerquant.architectures.ecapa_tdnn.config import BlockInput, EcapaTdnnConfig, Padding
from speakerquant.architectures.family import Family


def _arrange(
    weights: dict[str, Tensor], *, first_group_passes: bool = False, **differences: Any
) -> ForeignCheckpoint:
    """Return the checkpoint of weights by our names.

    Args:
        weights: As the family has them.
        first_group_passes: Whether a Res2 convolution leaves its first group as it is, instead of its last.
        differences: Values that differ from the defaults of :class:`EcapaTdnnConfig` and that no shape shows.
    """
    arranged = {name: _as_ours(name, tensor) for name, tensor in weights.items()}
    config = _config(arranged, differences)
    if first_group_passes:
        _pass_last_group(arranged, config)
    return ForeignCheckpoint(config, arranged)


def _as_ours(name: str, tensor: Tensor) -> Tensor:
    """Give the weight the shape that it has here: layers of kernel 1 come as convolutions or as matrices."""
    if name == "embedding_linear.weight":
        return tensor.flatten(1)
    if "squeeze_excitation" in name and tensor.ndim == 2:
        return tensor.unsqueeze(2)
    return tensor


def _pass_last_group(weights: dict[str, Tensor], config: EcapaTdnnConfig) -> None:
    """Reorder the channels around the Res2 convolutions so that the last group passes; the function stays."""
    width = config.channels // config.res2net_scale
    for name, tensor in weights.items():
        if re.search(r"\.(conv_in|norm_in)\.", name):
            weights[name] = tensor.roll(-width, 0)
        elif name.endswith(".conv_out.weight"):
            weights[name] = tensor.roll(-width, 1)


def _config(weights: Weights, differences: Mapping[str, Any]) -> EcapaTdnnConfig:
    """Return the settings that the shapes show, with what the family does differently."""
    channels, n_mels, _ = weights["input_conv.weight"].shape
    attention_channels, attention_inputs, _ = weights["attentive_pooling.hidden.weight"].shape
    aggregation_channels = weights["aggregation_conv.weight"].shape[0]
    return EcapaTdnnConfig(
        n_mels=n_mels,
        channels=channels,
        res2net_scale=channels // weights["se_res2block1.res2_conv.convs.0.weight"].shape[0],
        se_channels=weights["se_res2block1.squeeze_excitation.squeeze.weight"].shape[0],
        aggregation_channels=aggregation_channels,
        attention_channels=attention_channels,
        embedding_dim=weights["embedding_linear.weight"].shape[0],
        aggregation_norm="aggregation_norm.weight" in weights,
        global_context=attention_inputs == 3 * aggregation_channels,
        attention_norm="attentive_pooling.norm.weight" in weights,
        embedding_norm="embedding_norm.weight" in weights,
        **differences,
    )


_SPEECHBRAIN = Layout(
    signature=("blocks.0.conv.conv.weight", "asp.tdnn.conv.conv.weight"),
    names={
        r"blocks\.0\.conv\.conv": "input_conv",
        r"blocks\.0\.norm\.norm": "input_norm",
        r"blocks\.(\d)\.tdnn1\.conv\.conv": r"se_res2block\1.conv_in",
        r"blocks\.(\d)\.tdnn1\.norm\.norm": r"se_res2block\1.norm_in",
        r"blocks\.(\d)\.res2net_block\.blocks\.(\d+)\.conv\.conv": r"se_res2block\1.res2_conv.convs.\2",
        r"blocks\.(\d)\.res2net_block\.blocks\.(\d+)\.norm\.norm": r"se_res2block\1.res2_conv.norms.\2",
        r"blocks\.(\d)\.tdnn2\.conv\.conv": r"se_res2block\1.conv_out",
        r"blocks\.(\d)\.tdnn2\.norm\.norm": r"se_res2block\1.norm_out",
        r"blocks\.(\d)\.se_block\.conv1\.conv": r"se_res2block\1.squeeze_excitation.squeeze",
        r"blocks\.(\d)\.se_block\.conv2\.conv": r"se_res2block\1.squeeze_excitation.excite",
        r"mfa\.conv\.conv": "aggregation_conv",
        r"mfa\.norm\.norm": "aggregation_norm",
        r"asp\.tdnn\.conv\.conv": "attentive_pooling.hidden",
        r"asp\.tdnn\.norm\.norm": "attentive_pooling.norm",
        r"asp\.conv\.conv": "attentive_pooling.attention",
        r"asp_bn\.norm": "pooling_norm",
        r"fc\.conv": "embedding_linear",
    },
    arrange=partial(
        _arrange,
        first_group_passes=True,
        padding=Padding.reflect,
        block_input=BlockInput.previous,
        variance_floor=1e-12,
    ),
)
_WESPEAKER = Layout(
    signature=("layer1.conv.weight", "layer2.se_res2block.0.conv.weight"),
    names={
        r"layer1\.conv": "input_conv",
        r"layer1\.bn": "input_norm",
        **{
            pattern: replacement.format(block - 1)
            for block in (2, 3, 4)
            for pattern, replacement in {
                rf"layer{block}\.se_res2block\.0\.conv": "se_res2block{}.conv_in",
                rf"layer{block}\.se_res2block\.0\.bn": "se_res2block{}.norm_in",
                rf"layer{block}\.se_res2block\.1\.convs\.(\d+)": r"se_res2block{}.res2_conv.convs.\1",
                rf"layer{block}\.se_res2block\.1\.bns\.(\d+)": r"se_res2block{}.res2_conv.norms.\1",
                rf"layer{block}\.se_res2block\.2\.conv": "se_res2block{}.conv_out",
                rf"layer{block}\.se_res2block\.2\.bn": "se_res2block{}.norm_out",
                rf"layer{block}\.se_res2block\.3\.linear1": "se_res2block{}.squeeze_excitation.squeeze",
                rf"layer{block}\.se_res2block\.3\.linear2": "se_res2block{}.squeeze_excitation.excite",
            }.items()
        },
        r"conv": "aggregation_conv",
        r"pool\.linear1": "attentive_pooling.hidden",
        r"pool\.linear2": "attentive_pooling.attention",
        r"bn": "pooling_norm",
        r"linear": "embedding_linear",
        r"bn2": "embedding_norm",
    },
    arrange=partial(
        _arrange,
        block_input=BlockInput.previous,
        unbiased_context=True,
        context_floor_added=True,
        variance_floor=1e-7,
    ),
)
_VOXCELEB_TRAINER = Layout(
    signature=("conv1.weight", "layer1.se.se.1.weight"),
    names={
        r"conv1": "input_conv",
        r"bn1": "input_norm",
        r"layer([123])\.conv1": r"se_res2block\1.conv_in",
        r"layer([123])\.bn1": r"se_res2block\1.norm_in",
        r"layer([123])\.convs\.(\d+)": r"se_res2block\1.res2_conv.convs.\2",
        r"layer([123])\.bns\.(\d+)": r"se_res2block\1.res2_conv.norms.\2",
        r"layer([123])\.conv3": r"se_res2block\1.conv_out",
        r"layer([123])\.bn3": r"se_res2block\1.norm_out",
        r"layer([123])\.se\.se\.1": r"se_res2block\1.squeeze_excitation.squeeze",
        r"layer([123])\.se\.se\.3": r"se_res2block\1.squeeze_excitation.excite",
        r"layer4": "aggregation_conv",
        r"attention\.0": "attentive_pooling.hidden",
        r"attention\.2": "attentive_pooling.norm",
        r"attention\.4": "attentive_pooling.attention",
        r"bn5": "pooling_norm",
        r"fc6": "embedding_linear",
        r"bn6": "embedding_norm",
    },
    arrange=partial(_arrange, unbiased_context=True),
)
ECAPA_TDNN_FAMILIES = CheckpointFamilies(
    "ECAPA-TDNN",
    {
        Family.speechbrain: _SPEECHBRAIN,
        Family.three_d_speaker: _SPEECHBRAIN,
        Family.wespeaker: _WESPEAKER,
        Family.voxceleb_trainer: _VOXCELEB_TRAINER,
    },
)
