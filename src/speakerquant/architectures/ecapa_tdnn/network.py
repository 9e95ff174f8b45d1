"""ECAPA-TDNN, the speaker embedding network.

Desplanques, Thienpondt, Demuynck: "ECAPA-TDNN: Emphasized Channel Attention, Propagation and
Aggregation in TDNN Based Speaker Verification", Interspeech 2020. Public implementations differ in details,
each of which is an option of :class:`EcapaTdnnConfig`. The defaults are the arrangement that the quantization
paper measured (Hong, Chung, Kang): the input of every block is the sum of all earlier outputs, and the hidden
layer of the attention has 256 channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speakerquant.architectures.ecapa_tdnn.config import BlockInput, EcapaTdnnConfig, Padding
from speakerquant.architectures.speaker_network import SpeakerNetwork


def _reflection(width: int, dilation: int, padding: Padding) -> int:
    """Return the number of frames to reflect at each end before a convolution that keeps the length.

    It is 0 for zero padding, which the convolution does itself.
    """
    return dilation * (width // 2) if padding is Padding.reflect else 0


def _reflected(x: Tensor, frames: int) -> Tensor:
    return F.pad(x, (frames, frames), mode="reflect") if frames else x


def _wide_conv(in_channels: int, out_channels: int, width: int, dilation: int, padding: Padding) -> nn.Conv1d:
    zeros = dilation * (width // 2) if padding is Padding.zeros else 0
    return nn.Conv1d(in_channels, out_channels, width, dilation=dilation, padding=zeros)


class Res2Conv(nn.Module):
    """Res2Net's hierarchy of dilated convolutions: each group also sees the output of the group before."""

    def __init__(self, channels: int, scale: int, dilation: int, padding: Padding) -> None:
        super().__init__()
        self.width = width = channels // scale
        self.reflection = _reflection(3, dilation, padding)
        self.convs = nn.ModuleList(_wide_conv(width, width, 3, dilation, padding) for _ in range(scale - 1))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        groups = torch.split(x, self.width, dim=1)
        outputs: list[Tensor] = []
        for group, conv, norm in zip(groups, self.convs, self.norms, strict=False):
            source = group if not outputs else outputs[-1] + group
            outputs.append(norm(F.relu(conv(_reflected(source, self.reflection)))))
        return torch.cat([*outputs, groups[-1]], dim=1)


class SqueezeExcitation(nn.Module):
    """Squeeze-excitation, which rescales channels by a gate computed from their means over time."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv1d(channels, bottleneck, 1)
        self.excite = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.relu(self.squeeze(x.mean(dim=2, keepdim=True)))
        rescaled: Tensor = x * torch.sigmoid(self.excite(gate))
        return rescaled


class SERes2Block(nn.Module):
    """A residual block of 1x1 convolution, Res2 convolution, 1x1 convolution and squeeze-excitation."""

    def __init__(self, config: EcapaTdnnConfig, dilation: int) -> None:
        super().__init__()
        channels = config.channels
        self.conv_in = nn.Conv1d(channels, channels, 1)
        self.norm_in = nn.BatchNorm1d(channels)
        self.res2_conv = Res2Conv(channels, config.res2net_scale, dilation, config.padding)
        self.conv_out = nn.Conv1d(channels, channels, 1)
        self.norm_out = nn.BatchNorm1d(channels)
        self.squeeze_excitation = SqueezeExcitation(channels, config.se_channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm_in(F.relu(self.conv_in(x)))
        hidden = self.res2_conv(hidden)
        hidden = self.norm_out(F.relu(self.conv_out(hidden)))
        output: Tensor = x + self.squeeze_excitation(hidden)
        return output


class AttentiveStatisticsPooling(nn.Module):
    """Weighted mean and standard deviation over time, with weights for each channel and frame."""

    def __init__(self, config: EcapaTdnnConfig) -> None:
        super().__init__()
        channels, hidden_channels = config.aggregation_channels, config.attention_channels
        self.global_context = config.global_context
        self.unbiased_context = config.unbiased_context
        self.context_floor_added = config.context_floor_added
        self.variance_floor = config.variance_floor
        self.hidden = nn.Conv1d(channels * (3 if config.global_context else 1), hidden_channels, 1)
        self.norm = nn.BatchNorm1d(hidden_channels) if config.attention_norm else None
        self.attention = nn.Conv1d(hidden_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(self._context(x) if self.global_context else x)
        if self.norm is not None:
            hidden = self.norm(F.relu(hidden))
        weights = torch.softmax(self.attention(torch.tanh(hidden)), dim=2)
        mean = (x * weights).sum(dim=2, keepdim=True)
        # not the mean of squares less the square of the mean, which cancels where a channel hardly moves
        variance = ((x - mean).square() * weights).sum(dim=2, keepdim=True)
        return torch.cat([mean, self._floored(variance).sqrt()], dim=1).squeeze(2)

    def _context(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=2, keepdim=True)
        variance = (x - mean).square().mean(dim=2, keepdim=True)
        if self.unbiased_context:
            frames = x.shape[2]
            variance = variance * (frames / (frames - 1))
        floored = variance + self.variance_floor if self.context_floor_added else self._floored(variance)
        return torch.cat([x, mean.expand_as(x), floored.sqrt().expand_as(x)], dim=1)

    def _floored(self, variance: Tensor) -> Tensor:
        return variance.clamp(min=self.variance_floor)


class EcapaTdnn(SpeakerNetwork):
    """The network; its embeddings ``[B, embedding_dim]`` are not length-normalised."""

    def __init__(self, config: EcapaTdnnConfig) -> None:
        super().__init__(config)
        channels = config.channels
        self.input_conv = _wide_conv(config.n_mels, channels, 5, 1, config.padding)
        self.input_reflection = _reflection(5, 1, config.padding)
        self.input_norm = nn.BatchNorm1d(channels)
        self.se_res2block1, self.se_res2block2, self.se_res2block3 = (
            SERes2Block(config, dilation) for dilation in config.dilations
        )
        self.aggregation_conv = nn.Conv1d(3 * channels, config.aggregation_channels, 1)
        self.aggregation_norm = (
            nn.BatchNorm1d(config.aggregation_channels) if config.aggregation_norm else nn.Identity()
        )
        self.attentive_pooling = AttentiveStatisticsPooling(config)
        self.pooling_norm = nn.BatchNorm1d(2 * config.aggregation_channels)
        self.embedding_linear = nn.Linear(2 * config.aggregation_channels, config.embedding_dim)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim) if config.embedding_norm else nn.Identity()

    @property
    def min_frames(self) -> int:
        config = self.config
        reflected = max(2, *config.dilations) + 1 if config.padding is Padding.reflect else 1
        return max(reflected, 2 if config.global_context and config.unbiased_context else 1)

    def forward(self, features: Tensor) -> Tensor:
        convolved = self.input_conv(_reflected(features, self.input_reflection))
        before = self.input_norm(F.relu(convolved))
        summed = self.config.block_input is BlockInput.sum
        outputs: list[Tensor] = []
        for block in (self.se_res2block1, self.se_res2block2, self.se_res2block3):
            outputs.append(block(before))
            before = before + outputs[-1] if summed else outputs[-1]
        frames = self.aggregation_norm(F.relu(self.aggregation_conv(torch.cat(outputs, dim=1))))
        pooled = self.pooling_norm(self.attentive_pooling(frames))
        embedding: Tensor = self.embedding_norm(self.embedding_linear(pooled))
        return embedding
