"""The public ResNet families: what their state dicts call our layers.

They are WeSpeaker (``wespeaker/models/resnet.py``), 3D-Speaker (``speakerlab/models/resnet``), which names
its layers likewise, and pyannote (``pyannote/audio/models/embedding/wespeaker``), whose model holds
WeSpeaker's.
"""

import logging
import re
from functools import partial

from torch import Tensor

from speakerquant.architectures.checkpoint_families import (
    CheckpointFamilies,
    ForeignCheckpoint,
    Layout,
    Weights,
)
from speakerquant.architectures.family import Family
from speakerquant.architectures.residual_blocks import Bottleneck, residual_names
from speakerquant.architectures.resnet.config import ResNetConfig
from speakerquant.audio.front_end import FrontEnd

log = logging.getLogger(__name__)


def _arrange(weights: dict[str, Tensor], variance_floor: float) -> ForeignCheckpoint:
    return ForeignCheckpoint(_config(weights, variance_floor), weights)


def _config(weights: Weights, variance_floor: float) -> ResNetConfig:
    """Return the settings that the shapes show."""
    channels = weights["input_conv.weight"].shape[0]
    embedding_dim, pooled = weights["embedding_linear.weight"].shape
    bottleneck = "stage1.0.conv3.weight" in weights
    per_row = 2 * 8 * channels * (Bottleneck.expansion if bottleneck else 1)
    n_mels = 8 * pooled // per_row
    if n_mels != FrontEnd().n_mels:
        log.warning(
            "the shapes are those of %d mel bands, pooled by mean and deviation, which is assumed, and of %d "
            "pooled by one of the two (TAP, TSDP), which is not supported",
            *(n_mels, 2 * n_mels),
        )
    return ResNetConfig(
        n_mels=n_mels,
        channels=channels,
        num_blocks=[_num_blocks(weights, stage) for stage in ("stage1", "stage2", "stage3", "stage4")],
        bottleneck=bottleneck,
        embedding_dim=embedding_dim,
        two_embedding_layers="second_embedding_linear.weight" in weights,
        variance_floor=variance_floor,
    )


def _num_blocks(weights: Weights, stage: str) -> int:
    return sum(re.fullmatch(rf"{stage}\.\d+\.conv1\.weight", name) is not None for name in weights)


def _layout(prefix: str, variance_floor: float) -> Layout:
    names = {
        "conv1": "input_conv",
        "bn1": "input_norm",
        **residual_names(r"layer(?P<stage>[1-4])\.(?P<block>\d+)", r"stage\g<stage>.\g<block>"),
        "seg_1": "embedding_linear",
        "seg_bn_1": "embedding_norm",
        "seg_2": "second_embedding_linear",
    }
    return Layout(
        # the second convolution of a block is one of several in Res2Net and its kind
        signature=tuple(f"{prefix}{name}.weight" for name in ("conv1", "layer1.0.conv2", "seg_1")),
        names={re.escape(prefix) + pattern: ours for pattern, ours in names.items()},
        arrange=partial(_arrange, variance_floor=variance_floor),
    )


RESNET_FAMILIES = CheckpointFamilies(
    "ResNet",
    {
        Family.wespeaker: _layout("", variance_floor=1e-7),
        Family.three_d_speaker: _layout("", variance_floor=1e-8),
        Family.pyannote: _layout("resnet.", variance_floor=1e-24),
    },
)
