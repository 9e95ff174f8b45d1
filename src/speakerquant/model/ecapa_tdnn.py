"""ECAPA-TDNN, the speaker embedding network.

Desplanques, Thienpondt, Demuynck: "ECAPA-TDNN: Emphasized Channel Attention, Propagation and
Aggregation in TDNN Based Speaker Verification", Interspeech 2020; in the arrangement that the
quantization paper measured (Hong, Chung, Kang): every block is fed with the sum of all that came
before it, and the attention hidden layer has 256 channels.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speakerquant.errors import UserError


@dataclass
class EcapaTdnnConfig:
    """Shape of the network. ``channels`` is the paper's C."""

    n_mels: int = 80
    channels: int = 1024
    res2net_scale: int = 8
    dilations: list[int] = field(default_factory=lambda: [2, 3, 4])
    se_channels: int = 128
    aggregation_channels: int = 1536
    attention_channels: int = 256
    embedding_dim: int = 192

    def __post_init__(self) -> None:
        if self.channels < 1 or self.channels % self.res2net_scale:
            raise UserError(
                f"model.architecture.channels={self.channels}: "
                f"must be a multiple of res2net_scale={self.res2net_scale}"
            )
        if len(self.dilations) != 3:
            raise UserError(
                f"model.architecture.dilations={self.dilations}: give one for each of the three blocks"
            )


class Res2Conv(nn.Module):
    """Res2Net's hierarchy of dilated convolutions: each group also sees the output of the one before."""

    def __init__(self, channels: int, scale: int, dilation: int) -> None:
        super().__init__()
        width = channels // scale
        self.scale = scale
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, dilation=dilation, padding=dilation) for _ in range(scale - 1)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        groups = torch.chunk(x, self.scale, dim=1)
        outputs: list[Tensor] = []
        for group, conv, norm in zip(groups, self.convs, self.norms, strict=False):
            source = group if not outputs else outputs[-1] + group
            outputs.append(norm(F.relu(conv(source))))
        return torch.cat([*outputs, groups[-1]], dim=1)


class SqueezeExcitation(nn.Module):
    """Rescales channels by a gate computed from their mean over time."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv1d(channels, bottleneck, 1)
        self.excite = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.relu(self.squeeze(x.mean(dim=2, keepdim=True)))
        rescaled: Tensor = x * torch.sigmoid(self.excite(gate))
        return rescaled


class SERes2Block(nn.Module):
    """1x1 convolution, Res2 convolution, 1x1 convolution, squeeze-excitation, residual."""

    def __init__(self, channels: int, scale: int, dilation: int, se_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv1d(channels, channels, 1)
        self.norm_in = nn.BatchNorm1d(channels)
        self.res2_conv = Res2Conv(channels, scale, dilation)
        self.conv_out = nn.Conv1d(channels, channels, 1)
        self.norm_out = nn.BatchNorm1d(channels)
        self.squeeze_excitation = SqueezeExcitation(channels, se_channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm_in(F.relu(self.conv_in(x)))
        hidden = self.res2_conv(hidden)
        hidden = self.norm_out(F.relu(self.conv_out(hidden)))
        output: Tensor = x + self.squeeze_excitation(hidden)
        return output


class AttentiveStatisticsPooling(nn.Module):
    """Weighted mean and deviation over time; the weights depend on channel and on global context."""

    variance_floor = 1e-4

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(3 * channels, hidden_channels, 1)
        self.norm = nn.BatchNorm1d(hidden_channels)
        self.attention = nn.Conv1d(hidden_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=2, keepdim=True)
        deviation = (x - mean).square().mean(dim=2, keepdim=True).clamp(min=self.variance_floor).sqrt()
        context = torch.cat([x, mean.expand_as(x), deviation.expand_as(x)], dim=1)
        weights = torch.softmax(self.attention(torch.tanh(self.norm(F.relu(self.hidden(context))))), dim=2)
        mean = (x * weights).sum(dim=2)
        variance = (x.square() * weights).sum(dim=2) - mean.square()
        return torch.cat([mean, variance.clamp(min=self.variance_floor).sqrt()], dim=1)


class EcapaTdnn(nn.Module):
    """Features ``[B, n_mels, T]`` to embeddings ``[B, embedding_dim]`` (not length-normalised)."""

    def __init__(self, config: EcapaTdnnConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.input_conv = nn.Conv1d(config.n_mels, channels, 5, padding=2)
        self.input_norm = nn.BatchNorm1d(channels)
        self.se_res2block1, self.se_res2block2, self.se_res2block3 = (
            SERes2Block(channels, config.res2net_scale, dilation, config.se_channels)
            for dilation in config.dilations
        )
        self.aggregation_conv = nn.Conv1d(3 * channels, config.aggregation_channels, 1)
        self.attentive_pooling = AttentiveStatisticsPooling(
            config.aggregation_channels, config.attention_channels
        )
        self.pooling_norm = nn.BatchNorm1d(2 * config.aggregation_channels)
        self.embedding_linear = nn.Linear(2 * config.aggregation_channels, config.embedding_dim)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        block_input = self.input_norm(F.relu(self.input_conv(features)))
        block1 = self.se_res2block1(block_input)
        block2 = self.se_res2block2(block_input + block1)
        block3 = self.se_res2block3(block_input + block1 + block2)
        frames = F.relu(self.aggregation_conv(torch.cat([block1, block2, block3], dim=1)))
        pooled = self.pooling_norm(self.attentive_pooling(frames))
        embedding: Tensor = self.embedding_norm(self.embedding_linear(pooled))
        return embedding
