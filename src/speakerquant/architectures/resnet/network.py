"""ResNet with statistics pooling, the speaker embedding network of WeSpeaker and pyannote.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016; as a speaker network: Wang et
al., "WeSpeaker: A Research and Production Oriented Speaker Embedding Learning Toolkit", ICASSP 2023. Of the
network for images it has half of the channels, a first convolution of kernel 3, and no pooling behind that.
"""

from dataclasses import asdict, dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from speakerquant.architectures.residual_blocks import BasicBlock, Bottleneck, residual_stage
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.architectures.statistics_pooling import MIN_FRAMES, statistics_pooling
from speakerquant.errors import UserError

_STRIDE = 8  # of the four stages together, along bands and frames


@dataclass
class ResNetConfig:
    """Settings that shape the network; the defaults are those of ResNet34.

    Attributes:
        n_mels: Number of mel bands of the features, a multiple of 8.
        channels: Number of channels of the first stage; each further stage has twice as many.
        num_blocks: Number of residual blocks of each of the four stages: 2, 2, 2, 2 for ResNet18; 3, 4, 6, 3
            for ResNet34 and 50; 3, 4, 23, 3 for 101; 3, 8, 36, 3 for 152; 6, 16, 48, 3 for 221; 10, 20, 64, 3
            for 293.
        bottleneck: Whether blocks are bottlenecks of three convolutions (from ResNet50 on) in place of two.
        embedding_dim: Length of an embedding.
        two_embedding_layers: Whether a second linear layer gives the embedding.
        variance_floor: What is added to the variance over time.
    """

    n_mels: int = 80
    channels: int = 32
    num_blocks: list[int] = field(default_factory=lambda: [3, 4, 6, 3])
    bottleneck: bool = False
    embedding_dim: int = 256
    two_embedding_layers: bool = False
    variance_floor: float = 1e-7

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise UserError(f"model.architecture.{name}={value}: must be at least 1")
        if len(self.num_blocks) != 4 or min(self.num_blocks) < 1:
            raise UserError(
                f"model.architecture.num_blocks={self.num_blocks}: give one for each of the four stages"
            )
        if self.n_mels % _STRIDE:
            raise UserError(f"model.architecture.n_mels={self.n_mels}: must be a multiple of {_STRIDE}")
        if not self.variance_floor > 0:
            raise UserError(f"model.architecture.variance_floor={self.variance_floor}: must be above 0")


class ResNet(SpeakerNetwork):
    """The network; its embeddings ``[B, embedding_dim]`` are not length-normalised."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        block = Bottleneck if config.bottleneck else BasicBlock
        widths = [config.channels * 2**stage for stage in range(4)]
        inputs = [config.channels, *(width * block.expansion for width in widths[:3])]
        strides = [(1, 1), (2, 2), (2, 2), (2, 2)]
        self.input_conv = nn.Conv2d(1, config.channels, 3, padding=1, bias=False)
        self.input_norm = nn.BatchNorm2d(config.channels)
        self.stage1, self.stage2, self.stage3, self.stage4 = (
            residual_stage(block, *stage)
            for stage in zip(config.num_blocks, inputs, widths, strides, strict=True)
        )
        pooled = 2 * widths[-1] * block.expansion * (config.n_mels // _STRIDE)
        self.embedding_linear = nn.Linear(pooled, config.embedding_dim)
        if config.two_embedding_layers:
            self.embedding_norm = nn.BatchNorm1d(config.embedding_dim, affine=False)
            self.second_embedding_linear = nn.Linear(config.embedding_dim, config.embedding_dim)

    @property
    def min_frames(self) -> int:
        return _STRIDE * (MIN_FRAMES - 1) + 1

    def forward(self, features: Tensor) -> Tensor:
        maps = F.relu(self.input_norm(self.input_conv(features.unsqueeze(1))))
        maps = self.stage4(self.stage3(self.stage2(self.stage1(maps))))
        pooled = statistics_pooling(maps.flatten(1, 2), self.config.variance_floor)
        embedding: Tensor = self.embedding_linear(pooled)
        if self.config.two_embedding_layers:
            embedding = self.second_embedding_linear(self.embedding_norm(F.relu(embedding)))
        return embedding
