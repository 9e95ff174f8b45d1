"""CAM++, the speaker embedding network.

Wang, Zheng, Chen, Cheng, Chen: "CAM++: A Fast and Efficient Network for Speaker Verification Using
Context-Aware Masking", Interspeech 2023 (arXiv 2303.00332). The defaults are the network that 3D-Speaker has
released for Mandarin and English.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speakerquant.architectures.campplus.config import ROW_BANDS, CamPlusPlusConfig
from speakerquant.architectures.residual_blocks import BasicBlock, residual_stage
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.architectures.statistics_pooling import MIN_FRAMES, statistics_pooling

_FRAME_STRIDE = 2  # of the layer behind the head


class Head(nn.Module):
    """Two-dimensional convolutions, which keep every frame and turn eight bands into one row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.norm_in = nn.BatchNorm2d(channels)
        self.stage1 = residual_stage(BasicBlock, 2, channels, channels, (2, 1))
        self.stage2 = residual_stage(BasicBlock, 2, channels, channels, (2, 1))
        self.conv_out = nn.Conv2d(channels, channels, 3, (2, 1), padding=1, bias=False)
        self.norm_out = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        maps = F.relu(self.norm_in(self.conv_in(features.unsqueeze(1))))
        maps = self.stage2(self.stage1(maps))
        return F.relu(self.norm_out(self.conv_out(maps))).flatten(1, 2)


@dataclass(frozen=True)
class Segments:
    """The segments that the frames of a batch are divided into, of which the last may be shorter.

    They are the same for every layer, and computed once. The exported graph is small and right at every
    length: where a pooling rounds up, engines differ in what they divide the last segment by.

    Attributes:
        length: Number of frames of a segment.
        of_frame: Number of each frame's segment, ``[T]``.
        filled: Share of each segment that there are frames of, ``[1, 1, S]``.
    """

    length: int
    of_frame: Tensor
    filled: Tensor

    @classmethod
    def of(cls, frames: Tensor, length: int) -> "Segments":
        """The segments of frames ``[B, C, T]``."""
        of_frame = torch.arange(frames.shape[2], device=frames.device).div(length, rounding_mode="floor")
        return cls(length, of_frame, _padded_means(torch.ones_like(frames[:1, :1]), length))

    def means(self, frames: Tensor) -> Tensor:
        """Mean over each segment, ``[B, C, S]``."""
        return _padded_means(frames, self.length) / self.filled

    def at_frames(self, values: Tensor) -> Tensor:
        """The values ``[B, C, S]`` of the segments, at each of their frames."""
        return values.index_select(2, self.of_frame)


def _padded_means(frames: Tensor, length: int) -> Tensor:
    """Sum over each segment, divided by the length that a whole one has."""
    return F.avg_pool1d(F.pad(frames, (0, length - 1)), length, length)


class DenseLayer(nn.Module):
    """A dilated convolution on a bottleneck, whose outputs are gated by the context of their segment."""

    def __init__(self, config: CamPlusPlusConfig, in_channels: int, dilation: int) -> None:
        super().__init__()
        channels = config.bottleneck_channels
        self.norm_in = nn.BatchNorm1d(in_channels)
        self.bottleneck = nn.Conv1d(in_channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.conv = nn.Conv1d(channels, config.growth, 3, dilation=dilation, padding=dilation, bias=False)
        self.gate_hidden = nn.Conv1d(channels, channels // 2, 1)
        self.gate = nn.Conv1d(channels // 2, config.growth, 1)

    def forward(self, frames: Tensor, segments: Segments) -> Tensor:
        hidden = F.relu(self.norm(self.bottleneck(F.relu(self.norm_in(frames)))))
        context = hidden.mean(dim=2, keepdim=True) + segments.means(hidden)
        gates = torch.sigmoid(self.gate(F.relu(self.gate_hidden(context))))
        gated: Tensor = self.conv(hidden) * segments.at_frames(gates)
        return gated


class DenseBlock(nn.ModuleDict):
    """Layers each of which sees the outputs of all before it."""

    def __init__(self, config: CamPlusPlusConfig, block: int, in_channels: int) -> None:
        num_layers, dilation = config.num_layers[block], config.dilations[block]
        layers = {
            f"layer{number + 1}": DenseLayer(config, in_channels + number * config.growth, dilation)
            for number in range(num_layers)
        }
        super().__init__(layers)
        self.out_channels = in_channels + num_layers * config.growth

    def forward(self, frames: Tensor, segments: Segments) -> Tensor:
        for layer in self.values():
            frames = torch.cat([frames, layer(frames, segments)], dim=1)
        return frames


class Tdnn(nn.Module):
    """The convolution behind the head, which leaves every second frame."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, channels, 5, _FRAME_STRIDE, padding=2, bias=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, frames: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(frames)))


class Transit(nn.Module):
    """The convolution between two blocks, which halves the channels."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels // 2
        self.norm = nn.BatchNorm1d(in_channels)
        self.conv = nn.Conv1d(in_channels, self.out_channels, 1, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        transited: Tensor = self.conv(F.relu(self.norm(frames)))
        return transited


class Dense(nn.Module):
    """The layer that gives the embedding, normalised without a scale and a shift of its own."""

    def __init__(self, in_features: int, embedding_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, embedding_dim, bias=False)
        self.norm = nn.BatchNorm1d(embedding_dim, affine=False)

    def forward(self, pooled: Tensor) -> Tensor:
        embedding: Tensor = self.norm(self.linear(pooled))
        return embedding


class CamPlusPlus(SpeakerNetwork):
    """The network; its embeddings ``[B, embedding_dim]`` are not length-normalised."""

    def __init__(self, config: CamPlusPlusConfig) -> None:
        super().__init__(config)
        self.head = Head(config.head_channels)
        self.tdnn = Tdnn(config.head_channels * (config.n_mels // ROW_BANDS), config.channels)
        self.block1 = DenseBlock(config, 0, config.channels)
        self.transit1 = Transit(self.block1.out_channels)
        self.block2 = DenseBlock(config, 1, self.transit1.out_channels)
        self.transit2 = Transit(self.block2.out_channels)
        self.block3 = DenseBlock(config, 2, self.transit2.out_channels)
        self.transit3 = Transit(self.block3.out_channels)
        self.out_norm = nn.BatchNorm1d(self.transit3.out_channels)
        self.dense = Dense(2 * self.transit3.out_channels, config.embedding_dim)

    @property
    def min_frames(self) -> int:
        return _FRAME_STRIDE * (MIN_FRAMES - 1) + 1

    def forward(self, features: Tensor) -> Tensor:
        frames = self.tdnn(self.head(features))
        segments = Segments.of(frames, self.config.segment_frames)
        frames = self.transit1(self.block1(frames, segments))
        frames = self.transit2(self.block2(frames, segments))
        frames = self.transit3(self.block3(frames, segments))
        frames = F.relu(self.out_norm(frames))
        embedding: Tensor = self.dense(statistics_pooling(frames, self.config.variance_floor))
        return embedding
