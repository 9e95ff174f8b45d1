"""The settings that shape a CAM++."""

from dataclasses import asdict, dataclass, field

from speakerquant.errors import UserError

ROW_BANDS = 8
"""Bands that the three strides of the head turn into one row."""


@dataclass
class CamPlusPlusConfig:
    """Settings that shape the network.

    Attributes:
        n_mels: Number of mel bands of the features, a multiple of 8.
        head_channels: Number of channels of the two-dimensional convolutions.
        channels: Number of channels that the first block begins with.
        growth: Number of channels that each layer of a block adds.
        bottleneck_channels: Number of channels that each layer of a block reduces its input to.
        num_layers: Number of layers of each of the three blocks.
        dilations: Dilation of the convolutions of each of the three blocks.
        segment_frames: Number of frames that are one segment, each of them two of the features.
        embedding_dim: Length of an embedding.
        variance_floor: What is added to the variance over time.
    """

    n_mels: int = 80
    head_channels: int = 32
    channels: int = 128
    growth: int = 32
    bottleneck_channels: int = 128
    num_layers: list[int] = field(default_factory=lambda: [12, 24, 16])
    dilations: list[int] = field(default_factory=lambda: [1, 2, 2])
    segment_frames: int = 100
    embedding_dim: int = 192
    variance_floor: float = 1e-24

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int) and value < 1:
                raise UserError(f"model.architecture.{name}={value}: must be at least 1")
            if isinstance(value, list) and (len(value) != 3 or min(value) < 1):
                raise UserError(f"model.architecture.{name}={value}: give one for each of the three blocks")
        if self.n_mels % ROW_BANDS:
            raise UserError(f"model.architecture.n_mels={self.n_mels}: must be a multiple of {ROW_BANDS}")
        if self.bottleneck_channels < 2:
            raise UserError(
                f"model.architecture.bottleneck_channels={self.bottleneck_channels}: must be at least 2"
            )
        if not self.variance_floor > 0:
            raise UserError(f"model.architecture.variance_floor={self.variance_floor}: must be above 0")
