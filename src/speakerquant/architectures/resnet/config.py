"""The settings that shape a ResNet."""

from dataclasses import asdict, dataclass, field

from speakerquant.errors import UserError

STRIDE = 8
"""Of the four stages together, along bands and frames."""


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
        if self.n_mels % STRIDE:
            raise UserError(f"model.architecture.n_mels={self.n_mels}: must be a multiple of {STRIDE}")
        if not self.variance_floor > 0:
            raise UserError(f"model.architecture.variance_floor={self.variance_floor}: must be above 0")
