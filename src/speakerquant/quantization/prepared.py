"""A network with all that turns its inputs and weights into integers, whatever the mask."""

from dataclasses import dataclass

from torch import nn

from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.files import digest
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import WeightRounding
from speakerquant.quantization.simulate import simulate


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """A network that masks can be put on.

    Attributes:
        model: The network in FP32.
        table: Ranges of its layers' inputs and weights.
        rounding: How weights with fitted scales become integers.
        rounding_in_words: The same for whoever reads of it.
        max_weight_bits: Most bits of integer weights, for engine and simulation alike.
    """

    model: SpeakerModel
    table: CalibrationTable
    rounding: WeightRounding
    rounding_in_words: str
    max_weight_bits: int

    @property
    def digest(self) -> str:
        """Digest of all that determines what a mask computes."""
        return digest(self.model.digest, self.table.digest, self.rounding.origin, self.max_weight_bits)

    def simulate(self, mask: Mask) -> nn.Module:
        """The network of a mask (:func:`speakerquant.quantization.simulate.simulate`).

        Raises:
            UserError: the table does not fit the network.
        """
        return simulate(self.model.network, mask, self.table, self.max_weight_bits, self.rounding)
