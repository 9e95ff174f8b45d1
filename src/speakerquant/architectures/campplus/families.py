"""The public CAM++ families: what their state dicts call our layers.

They are 3D-Speaker (``speakerlab/models/campplus``) and WeSpeaker (``wespeaker/models/campplus.py``), which
name their layers alike.
"""

import re
from functools import partial

from torch import Tensor

from speakerquant.architectures.campplus.config import CamPlusPlusConfig
from speakerquant.architectures.checkpoint_families import (
    CheckpointFamilies,
    ForeignCheckpoint,
    Layout,
    Weights,
)
from speakerquant.architectures.family import Family
from speakerquant.architectures.residual_blocks import residual_names

_LINEAR = "dense.linear.weight"


def _arrange(weights: dict[str, Tensor], variance_floor: float) -> ForeignCheckpoint:
    arranged = weights | {_LINEAR: weights[_LINEAR].flatten(1)}
    return ForeignCheckpoint(_config(arranged, variance_floor), arranged)


def _config(weights: Weights, variance_floor: float) -> CamPlusPlusConfig:
    """Return the settings that the shapes show; dilations and segments are those of all that are released."""
    head_channels = weights["head.conv_in.weight"].shape[0]
    channels, rows, _ = weights["tdnn.conv.weight"].shape
    return CamPlusPlusConfig(
        n_mels=8 * rows // head_channels,
        head_channels=head_channels,
        channels=channels,
        growth=weights["block1.layer1.conv.weight"].shape[0],
        bottleneck_channels=weights["block1.layer1.bottleneck.weight"].shape[0],
        num_layers=[_num_layers(weights, block) for block in ("block1", "block2", "block3")],
        embedding_dim=weights[_LINEAR].shape[0],
        variance_floor=variance_floor,
    )


def _num_layers(weights: Weights, block: str) -> int:
    return sum(re.fullmatch(rf"{block}\.layer\d+\.conv\.weight", name) is not None for name in weights)


_NAMES = {
    r"head\.conv1": "head.conv_in",
    r"head\.bn1": "head.norm_in",
    **residual_names(r"head\.layer(?P<stage>[12])\.(?P<block>\d)", r"head.stage\g<stage>.\g<block>"),
    r"head\.conv2": "head.conv_out",
    r"head\.bn2": "head.norm_out",
    r"xvector\.tdnn\.linear": "tdnn.conv",
    r"xvector\.tdnn\.nonlinear\.batchnorm": "tdnn.norm",
    r"xvector\.block(\d)\.tdnnd(\d+)\.nonlinear1\.batchnorm": r"block\1.layer\2.norm_in",
    r"xvector\.block(\d)\.tdnnd(\d+)\.linear1": r"block\1.layer\2.bottleneck",
    r"xvector\.block(\d)\.tdnnd(\d+)\.nonlinear2\.batchnorm": r"block\1.layer\2.norm",
    r"xvector\.block(\d)\.tdnnd(\d+)\.cam_layer\.linear_local": r"block\1.layer\2.conv",
    r"xvector\.block(\d)\.tdnnd(\d+)\.cam_layer\.linear1": r"block\1.layer\2.gate_hidden",
    r"xvector\.block(\d)\.tdnnd(\d+)\.cam_layer\.linear2": r"block\1.layer\2.gate",
    r"xvector\.transit(\d)\.nonlinear\.batchnorm": r"transit\1.norm",
    r"xvector\.transit(\d)\.linear": r"transit\1.conv",
    r"xvector\.out_nonlinear\.batchnorm": "out_norm",
    r"xvector\.dense\.linear": "dense.linear",
    r"xvector\.dense\.nonlinear\.batchnorm": "dense.norm",
}
_SIGNATURE = ("head.conv1.weight", "xvector.tdnn.linear.weight", "xvector.dense.linear.weight")
CAMPPLUS_FAMILIES = CheckpointFamilies(
    "CAM++",
    {
        Family.three_d_speaker: Layout(_SIGNATURE, _NAMES, partial(_arrange, variance_floor=1e-24)),
        Family.wespeaker: Layout(_SIGNATURE, _NAMES, partial(_arrange, variance_floor=1e-7)),
    },
)
