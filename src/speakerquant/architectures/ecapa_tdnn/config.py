"""The settings that shape an ECAPA-TDNN."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum

from speakerquant.errors import UserError

_SMALLEST = {"res2net_scale": 2}  # of the other whole numbers, 1


class Padding(StrEnum):
    """The values with which convolutions extend a recording beyond its ends."""

    zeros = "zeros"
    reflect = "reflect"


class BlockInput(StrEnum):
    """The input of an SE-Res2Block: the output of the block before it, or the sum of all earlier outputs."""

    sum = "sum"
    previous = "previous"


@dataclass
class EcapaTdnnConfig:
    """Settings that shape the network.

    Attributes:
        n_mels: Number of mel bands of the features.
        channels: Number of channels of the blocks, the C of the paper.
        res2net_scale: Number of groups of a Res2 convolution.
        dilations: Dilation of the Res2 convolution of each of the three blocks.
        se_channels: Number of channels of the hidden layer of squeeze-excitation.
        aggregation_channels: Number of output channels of the multi-layer aggregation.
        attention_channels: Number of channels of the hidden layer of the attention.
        embedding_dim: Length of an embedding.
        padding: How convolutions extend a recording beyond its ends.
        block_input: What the input of a block is.
        aggregation_norm: Whether batch normalisation follows the aggregation.
        global_context: Whether the attention also sees mean and standard deviation over the recording.
        attention_norm: Whether the attention has ReLU and batch normalisation before the tanh of its hidden
            layer.
        unbiased_context: Whether the standard deviation of the global context is the unbiased one.
        context_floor_added: Whether the floor is added to the variance of the global context, instead of
            bounding it from below.
        variance_floor: Smallest variance over time; it keeps square roots differentiable.
        embedding_norm: Whether the embedding is batch-normalised.
    """

    n_mels: int = 80
    channels: int = 1024
    res2net_scale: int = 8
    dilations: list[int] = field(default_factory=lambda: [2, 3, 4])
    se_channels: int = 128
    aggregation_channels: int = 1536
    attention_channels: int = 256
    embedding_dim: int = 192
    padding: Padding = Padding.zeros
    block_input: BlockInput = BlockInput.sum
    aggregation_norm: bool = False
    global_context: bool = True
    attention_norm: bool = True
    unbiased_context: bool = False
    context_floor_added: bool = False
    variance_floor: float = 1e-4
    embedding_norm: bool = True

    def __post_init__(self) -> None:
        self.padding, self.block_input = Padding(self.padding), BlockInput(self.block_input)
        for name, value in asdict(self).items():
            smallest = _SMALLEST.get(name, 1)
            if isinstance(value, int) and not isinstance(value, bool) and value < smallest:
                raise UserError(f"model.architecture.{name}={value}: must be at least {smallest}")
        if not self.variance_floor > 0:
            raise UserError(f"model.architecture.variance_floor={self.variance_floor}: must be above 0")
        if self.channels % self.res2net_scale:
            raise UserError(
                f"model.architecture.channels={self.channels}: "
                f"must be a multiple of res2net_scale={self.res2net_scale}"
            )
        if len(self.dilations) != 3 or min(self.dilations) < 1:
            raise UserError(
                f"model.architecture.dilations={self.dilations}: give one for each of the three blocks"
            )
