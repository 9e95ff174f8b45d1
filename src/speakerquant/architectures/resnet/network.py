"""ResNet with statistics pooling, the speaker embedding network of WeSpeaker, 3D-Speaker and pyannote.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016; as a speaker network: Wang et
al., "WeSpeaker: A Research and Production Oriented Speaker Embedding Learning Toolkit", ICASSP 2023. Of the
network for images it has half of the channels, a first convolution of kernel 3, and no pooling behind that.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from speakerquant.architectures.residual_blocks import BasicBlock, Bottleneck, residual_stage
from speakerquant.architectures.resnet.config import STRIDE, ResNetConfig
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.architectures.statistics_pooling import MIN_FRAMES, statistics_pooling


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
        pooled = 2 * widths[-1] * block.expansion * (config.n_mels // STRIDE)
        self.embedding_linear = nn.Linear(pooled, config.embedding_dim)
        if config.two_embedding_layers:
            self.embedding_norm = nn.BatchNorm1d(config.embedding_dim, affine=False)
            self.second_embedding_linear = nn.Linear(config.embedding_dim, config.embedding_dim)

    @property
    def min_frames(self) -> int:
        return STRIDE * (MIN_FRAMES - 1) + 1

    def forward(self, features: Tensor) -> Tensor:
        maps = F.relu(self.input_norm(self.input_conv(features.unsqueeze(1))))
        maps = self.stage4(self.stage3(self.stage2(self.stage1(maps))))
        pooled = statistics_pooling(maps.flatten(1, 2), self.config.variance_floor)
        embedding: Tensor = self.embedding_linear(pooled)
        if self.config.two_embedding_layers:
            embedding = self.second_embedding_linear(self.embedding_norm(F.relu(embedding)))
        return embedding
