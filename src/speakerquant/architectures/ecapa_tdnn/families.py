"""The public ECAPA-TDNN families: what their state dicts call our layers, and what they do differently.

The families are SpeechBrain (``speechbrain/lobes/models/ECAPA_TDNN.py``), 3D-Speaker
(``speakerlab/models/ecapa_tdnn``, which names its layers likewise), WeSpeaker
(``wespeaker/models/ecapa_tdnn.py``), and the style of voxceleb_trainer (``ECAPA-TDNN`` of TaoRuijie, after
clovaai's trainer).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from torch import Tensor

from speakerquant.architectures.ecapa_tdnn.network import BlockInput, EcapaTdnnConfig, Padding
from speakerquant.architectures.speaker_network import ForeignCheckpoint, Weights
from speakerquant.audio.front_end import FrontEnd, FrontEndKind, Window
from speakerquant.errors import UserError


class Family(StrEnum):
    """The software that a checkpoint was trained with."""

    speechbrain = "speechbrain"
    three_d_speaker = "three_d_speaker"
    wespeaker = "wespeaker"
    voxceleb_trainer = "voxceleb_trainer"


@dataclass(frozen=True)
class _Layout:
    """How a family's state dict is laid out.

    Attributes:
        signature: Names that only state dicts of this layout have.
        names: Our name for each pattern of its layers' names, without ``.weight`` and the like.
        ignored: Pattern of the names that are not weights of the network.
        differences: Values that differ from the defaults of :class:`EcapaTdnnConfig` and that no shape shows.
        first_group_passes: Whether a Res2 convolution leaves its first group as it is, instead of its last.
    """

    signature: tuple[str, ...]
    names: Mapping[str, str]
    ignored: str = "$^"
    differences: Mapping[str, Any] = field(default_factory=dict)
    first_group_passes: bool = False


_SPEECHBRAIN = _Layout(
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
    differences={"padding": Padding.reflect, "block_input": BlockInput.previous, "variance_floor": 1e-12},
    first_group_passes=True,
)
_WESPEAKER = _Layout(
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
    ignored=r"projection(_head)?\.|mlp\.",
    differences={
        "block_input": BlockInput.previous,
        "unbiased_context": True,
        "context_floor_added": True,
        "variance_floor": 1e-7,
    },
)
_VOXCELEB_TRAINER = _Layout(
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
    ignored=r"torchfbank\.|speaker_loss\.|__L__\.",
    differences={"unbiased_context": True},
)
_LAYOUTS = {
    Family.speechbrain: _SPEECHBRAIN,
    Family.three_d_speaker: _SPEECHBRAIN,
    Family.wespeaker: _WESPEAKER,
    Family.voxceleb_trainer: _VOXCELEB_TRAINER,
}
FRONT_ENDS: Mapping[Family, FrontEnd] = {
    Family.speechbrain: FrontEnd(FrontEndKind.speechbrain, n_fft=400, f_min=0.0, f_max=8000.0),
    Family.three_d_speaker: FrontEnd(FrontEndKind.kaldi, f_max=8000.0, window=Window.povey),
    Family.wespeaker: FrontEnd(FrontEndKind.kaldi, f_max=8000.0, waveform_scale=32768.0),
    Family.voxceleb_trainer: FrontEnd(center=True),
}
"""The front end of each family; every one subtracts the mean over the recording."""

# Of training in parallel, of compilation, and of trainers.
_WRAPPERS = (
    *("module.", "_orig_mod.", "__S__.", "speaker_encoder."),
    *("model.", "mods.", "net.", "network.", "embedding_model.", "encoder."),
)
# What lies beside the network whatever the family: what it was trained by.
_BESIDE = re.compile(r"(classifier|classification|criterion|loss|aam_?softmax|head)\w*\.")
_PARAMETER = re.compile(r"\.(weight|bias|running_mean|running_var)$")
_COUNTER = ".num_batches_tracked"


def family_of(weights: Weights) -> Family:
    """Return the family whose names these are.

    Raises:
        UserError: no family has such names, or two families have them; the message says which comes nearest.
    """
    names = {_unwrapped(name) for name in weights}
    found = [family for family, layout in _LAYOUTS.items() if names.issuperset(layout.signature)]
    if not found:
        raise UserError(f"no ECAPA-TDNN of a known family; {nearest_format(weights)}")
    if len(found) > 1:
        raise UserError(
            "SpeechBrain and 3D-Speaker name their layers alike, but their features differ; "
            "choose model=speechbrain or model=three_d_speaker"
        )
    return found[0]


def convert(weights: Weights, family: Family) -> tuple[EcapaTdnnConfig, dict[str, Tensor]]:
    """Return the architecture of a family's state dict, and its weights by our names.

    Raises:
        UserError: a name is unknown or missing, or a shape fits no ECAPA-TDNN.
    """
    layout = _LAYOUTS[family]
    converted: dict[str, Tensor] = {}
    try:
        for name, tensor in weights.items():
            inner = _unwrapped(name)
            if inner.endswith(_COUNTER) or re.match(layout.ignored, inner) or _BESIDE.match(inner):
                continue
            ours = _our_name(inner, layout)
            if ours is None:
                raise UserError(f"{name} is unknown in {family}; {nearest_format(weights, family)}")
            converted[ours] = _as_ours(ours, tensor.float())
        architecture = _architecture(converted, layout)
        if layout.first_group_passes:
            _pass_last_group(converted, architecture)
        return architecture, converted
    except KeyError as error:
        raise UserError(
            f"{error.args[0]} is missing for {family}; {nearest_format(weights, family)}"
        ) from None
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        raise UserError(f"its shapes are those of no ECAPA-TDNN ({error})") from None


class EcapaTdnnFamilies:
    """The families of this module, for the registry's description of ECAPA-TDNN."""

    names = tuple(Family)

    def recognize(self, weights: Weights) -> str:
        return family_of(weights)

    def convert(self, weights: Weights, family: str) -> ForeignCheckpoint:
        config, converted = convert(weights, Family(family))
        front_end = replace(FRONT_ENDS[Family(family)], n_mels=config.n_mels)
        return ForeignCheckpoint(config, converted, front_end)

    def nearest_format(self, weights: Weights, preferred: str) -> str:
        return nearest_format(weights, Family(preferred))


def nearest_format(weights: Weights, preferred: Family | None = None) -> str:
    """Say in words which family knows most of these names; of equals, the preferred one."""
    names = [_unwrapped(name) for name in weights]
    known = {
        family: sum(_our_name(name, layout) is not None for name in names)
        for family, layout in _LAYOUTS.items()
    }
    nearest = max(known, key=lambda family: (known[family], family is preferred))
    return f"the nearest known format is {nearest}" if known[nearest] else "it resembles no known format"


def _as_ours(name: str, tensor: Tensor) -> Tensor:
    """Give the weight the shape that it has here: layers of kernel 1 come as convolutions or as matrices."""
    if name == "embedding_linear.weight":
        return tensor.flatten(1)
    if "squeeze_excitation" in name and tensor.ndim == 2:
        return tensor.unsqueeze(2)
    return tensor


def _pass_last_group(weights: dict[str, Tensor], architecture: EcapaTdnnConfig) -> None:
    """Reorder the channels around the Res2 convolutions so that the last group passes; the function stays."""
    width = architecture.channels // architecture.res2net_scale
    for name, tensor in weights.items():
        if re.search(r"\.(conv_in|norm_in)\.", name):
            weights[name] = tensor.roll(-width, 0)
        elif name.endswith(".conv_out.weight"):
            weights[name] = tensor.roll(-width, 1)


def _architecture(weights: Weights, layout: _Layout) -> EcapaTdnnConfig:
    """Return the settings that the shapes show, with what the family does differently."""
    channels, n_mels, _ = weights["input_conv.weight"].shape
    attention_channels, attention_inputs, _ = weights["attentive_pooling.hidden.weight"].shape
    aggregation_channels = weights["aggregation_conv.weight"].shape[0]
    try:
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
            **layout.differences,
        )
    except UserError as error:  # which speaks of settings that nobody gave
        raise ValueError(str(error)) from None


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name


def _our_name(inner: str, layout: _Layout) -> str | None:
    parameter = _PARAMETER.search(inner)
    if parameter is None:
        return None
    layer = inner[: parameter.start()]
    for pattern, replacement in layout.names.items():
        if match := re.fullmatch(pattern, layer):
            return match.expand(replacement) + parameter[0]
    return None
