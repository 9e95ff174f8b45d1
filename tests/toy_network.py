"""A network of two units, such as somebody may add to the project."""

from dataclasses import dataclass
from pathlib import Path

from onnx_files import write_onnx
from torch import Tensor, nn

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.speaker_network import SpeakerNetwork


@dataclass
class ToyConfig:
    """Shape of a :class:`Toy`."""

    n_mels: int = 8
    embedding_dim: int = 4


class Toy(SpeakerNetwork):
    """A network of one convolution and one linear layer."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.frames = nn.Conv1d(config.n_mels, 16, 3, padding=1)
        self.embedding = nn.Linear(16, config.embedding_dim)

    @property
    def min_frames(self) -> int:
        return 1

    def forward(self, features: Tensor) -> Tensor:
        embeddings: Tensor = self.embedding(self.frames(features).relu().mean(dim=2))
        return embeddings


TOY = Architecture("toy", ToyConfig, Toy)


def export_toy(path: Path) -> Path:
    """A toy network with random weights as an ONNX file that says nothing of its front end."""
    return write_onnx(TOY.build(ToyConfig()), path, (2, 8, 100), ("features", "embeddings"))
