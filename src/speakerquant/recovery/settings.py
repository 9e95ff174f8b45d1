"""Settings of the recovery.

They stand apart from what recovers because every command reads the configuration's schema, which holds them.
"""

import math
from dataclasses import dataclass

from speakerquant.errors import UserError


@dataclass
class RecoverySettings:
    """How the network of a mask is trained to give the embeddings of the FP32 network again.

    Attributes:
        steps: Number of optimizer steps; 0 leaves the mask as it was rounded.
        learning_rate: How far integer weights move in the first step, in the step between two integers; it
            falls to 0. Scales, biases and normalisations learn in proportion.
        batch_size: Pieces of speech in a step.
        seed: Of the choice of these pieces.

    Raises:
        UserError: one of them is impossible.
    """

    steps: int = 0
    learning_rate: float = 0.02
    batch_size: int = 8
    seed: int = 0

    @property
    def in_words(self) -> str:
        """Such as ``recovery in 150 steps of 8 pieces of speech, learning rate 0.02, seed 0``."""
        return (
            f"recovery in {self.steps} steps of {self.batch_size} pieces of speech, "
            f"learning rate {self.learning_rate:g}, seed {self.seed}"
        )

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UserError(f"recovery.steps={self.steps}: give how many to train; 0 trains none")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(f"recovery.learning_rate={self.learning_rate}: give a number above 0")
        if self.batch_size < 1:
            raise UserError(f"recovery.batch_size={self.batch_size}: give at least 1 piece of speech a step")
        if self.seed < 0:
            raise UserError(f"recovery.seed={self.seed}: give 0 or more")
