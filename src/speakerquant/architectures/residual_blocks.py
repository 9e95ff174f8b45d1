"""The residual blocks of two-dimensional convolutions that speaker networks are made of.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

Stride = tuple[int, int]
"""Distance of two outputs along the bands, and along the frames."""


class ResidualBlock(nn.Module, ABC):
    """Convolutions, and around them a shortcut, which is a convolution itself where the shape changes."""

    expansion: int
    """Output channels for each of the channels in the block."""

    def __init__(self, in_channels: int, channels: int, stride: Stride) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self._make_branch(in_channels, channels, stride)
        self.has_shortcut_conv = stride != (1, 1) or in_channels != out_channels
        if self.has_shortcut_conv:
            self.shortcut_conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = self.shortcut_norm(self.shortcut_conv(maps)) if self.has_shortcut_conv else maps
        return F.relu(self._branch(maps) + shortcut)

    @abstractmethod
    def _make_branch(self, in_channels: int, channels: int, stride: Stride) -> None:
        """Make the layers beside the shortcut."""

    @abstractmethod
    def _branch(self, maps: Tensor) -> Tensor:
        """Return what they compute."""


class BasicBlock(ResidualBlock):
    """Two convolutions of kernel 3."""

    expansion = 1

    def _make_branch(self, in_channels: int, channels: int, stride: Stride) -> None:
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def _branch(self, maps: Tensor) -> Tensor:
        hidden = F.relu(self.norm1(self.conv1(maps)))
        output: Tensor = self.norm2(self.conv2(hidden))
        return output


class Bottleneck(ResidualBlock):
    """A convolution of kernel 3 on few channels, between two of kernel 1."""

    expansion = 4

    def _make_branch(self, in_channels: int, channels: int, stride: Stride) -> None:
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels * self.expansion)

    def _branch(self, maps: Tensor) -> Tensor:
        hidden = F.relu(self.norm1(self.conv1(maps)))
        hidden = F.relu(self.norm2(self.conv2(hidden)))
        output: Tensor = self.norm3(self.conv3(hidden))
        return output


def residual_stage(
    block: type[ResidualBlock], num_blocks: int, in_channels: int, channels: int, stride: Stride
) -> nn.Sequential:
    """Return blocks behind each other, the first of which has the stride."""
    first = block(in_channels, channels, stride)
    others = (block(channels * block.expansion, channels, (1, 1)) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *others)


def residual_names(theirs: str, ours: str) -> dict[str, str]:
    """Return our name for each pattern of the names that PyTorch's ResNet, and many after it, give layers.

    Args:
        theirs: Pattern of their names for a block.
        ours: Our name for it, in which its groups may be referred to by name.
    """
    return {
        rf"{theirs}\.conv(?P<number>\d)": rf"{ours}.conv\g<number>",
        rf"{theirs}\.bn(?P<number>\d)": rf"{ours}.norm\g<number>",
        rf"{theirs}\.shortcut\.0": f"{ours}.shortcut_conv",
        rf"{theirs}\.shortcut\.1": f"{ours}.shortcut_norm",
    }
