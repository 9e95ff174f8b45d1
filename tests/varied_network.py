"""A network of layers of every kind that masks reach, in the arrangements that deployed networks have."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.speaker_network import SpeakerNetwork


@dataclass
class VariedConfig:
    """Shape of a :class:`Varied`; whether it has a layer that cannot be quantized."""

    n_mels: int = 16
    channels: int = 32
    embedding_dim: int = 48
    has_memory: bool = False


class Head(nn.Module):
    """Two-dimensional convolutions, the first of stride 2 along the bands, the second dilated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.strided = nn.Conv2d(1, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.dilated = nn.Conv2d(channels, channels, 3, stride=2, dilation=2, padding=2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        maps: Tensor = self.dilated(torch.relu(self.norm(self.strided(features.unsqueeze(1)))))
        return maps.flatten(1, 2)


class Separable(nn.Module):
    """A normalisation before a depthwise convolution, then a pointwise and a grouped one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.depthwise = nn.Conv1d(channels, channels, 5, padding=2, groups=channels, bias=False)
        self.pointwise = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm_out = nn.BatchNorm1d(channels)
        self.grouped = nn.Conv1d(channels, channels, 3, dilation=2, padding=2, groups=4, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        hidden = self.pointwise(self.depthwise(torch.relu(self.norm(frames))))
        grouped: Tensor = self.grouped(torch.relu(self.norm_out(hidden)))
        return grouped


class Branches(nn.Module):
    """Two layers that read the same tensor, one of them with reflected padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv1d(channels, channels, 1, bias=False)
        self.values = nn.Conv1d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False)
        self.frames = nn.Linear(channels, channels)

    def forward(self, frames: Tensor) -> Tensor:
        gated = torch.sigmoid(self.gate(frames)) * self.values(frames)
        hidden: Tensor = self.frames(gated.transpose(1, 2))
        return hidden.transpose(1, 2)


class Varied(SpeakerNetwork):
    """The network; its blocks are the head, the separable convolutions, the branches and the embedding."""

    def __init__(self, config: VariedConfig) -> None:
        super().__init__(config)
        channels = config.channels * (config.n_mels // 4)
        self.head = Head(config.channels)
        self.separable = Separable(channels)
        self.branches = Branches(channels)
        self.memory = nn.GRU(channels, channels, batch_first=True) if config.has_memory else None
        self.embedding = nn.Linear(channels, config.embedding_dim, bias=False)
        self.norm = nn.BatchNorm1d(config.embedding_dim)

    @property
    def min_frames(self) -> int:
        return 3

    def forward(self, features: Tensor) -> Tensor:
        frames = self.head(features)
        frames = frames + self.separable(frames)
        frames = self.branches(frames)
        if self.memory is not None:
            frames = self.memory(frames.transpose(1, 2))[0].transpose(1, 2)
        embedding: Tensor = self.norm(self.embedding(frames.mean(dim=2)))
        return embedding


VARIED = Architecture("varied", VariedConfig, Varied)
