"""Settings of training and augmentation.

They stand apart from the trainer because every command reads the configuration's schema, which holds them.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from speakerquant.errors import UserError

_SEEDS = 2**32


@dataclass
class AugmentationConfig:
    """How training crops are disturbed.

    Attributes:
        room_probability: Probability that a crop is reverberated.
        channel_probability: Probability that a crop passes through a random channel filter.
        noise_probability: Probability that noise is added to a crop.
        min_snr_db: Lowest signal-to-noise ratio of that noise.
        max_snr_db: Highest signal-to-noise ratio of that noise.
        noise_root: Folder of noise recordings, such as MUSAN; without one, the noise is synthetic.
        room_root: Folder of room impulse responses, such as
            ``RIRS_NOISES/simulated_rirs``, and of nothing else; without one, rooms are synthetic.
    """

    room_probability: float = 0.4
    channel_probability: float = 0.5
    noise_probability: float = 0.6
    min_snr_db: float = 3.0
    max_snr_db: float = 25.0
    noise_root: Path | None = None
    room_root: Path | None = None

    def __post_init__(self) -> None:
        for what in ("room", "channel", "noise"):
            if not 0 <= (value := getattr(self, f"{what}_probability")) <= 1:
                raise UserError(f"augmentation.{what}_probability={value}: must lie between 0 and 1")
        for what in ("room", "noise"):
            if getattr(self, f"{what}_root") and not getattr(self, f"{what}_probability"):
                raise UserError(
                    f"augmentation.{what}_root is set, but nothing is read from it; set "
                    f"augmentation.{what}_probability above 0"
                )
        for name in ("min_snr_db", "max_snr_db"):
            if not math.isfinite(value := getattr(self, name)):
                raise UserError(f"augmentation.{name}={value}: give a number of decibels")
        if self.min_snr_db > self.max_snr_db:
            raise UserError(
                f"augmentation.min_snr_db={self.min_snr_db:g}: must not lie above augmentation.max_snr_db="
                f"{self.max_snr_db:g}"
            )


@dataclass
class TrainingConfig:
    """Settings of AdamW under a cosine schedule, with an additive-angular-margin loss whose margin grows.

    Attributes:
        num_steps: Number of optimizer steps.
        learning_rate: Highest learning rate, which is reached after the warm-up and then falls to 0.
        weight_decay: Weight decay of AdamW.
        warmup_steps: Steps over which the learning rate rises linearly.
        margin: Full margin of the loss, in radians.
        margin_start_step: Step from which the margin grows linearly from 0.
        margin_full_step: Step from which the margin is full.
        scale: Factor of the cosines in the loss.
        frequency_mask: Largest number of neighbouring mel bands that SpecAugment masks.
        time_mask: Largest number of neighbouring frames that SpecAugment masks.
        gradient_clip: Largest norm of the gradient.
        report_every: Steps from one report of the loss to the next.
        validate_every: Steps from one validation, after which the state is saved, to the next.
        seed: Seed of the training head, the batches and SpecAugment.
    """

    num_steps: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    margin: float
    margin_start_step: int
    margin_full_step: int
    scale: float
    frequency_mask: int
    time_mask: int
    gradient_clip: float
    report_every: int
    validate_every: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("num_steps", "warmup_steps", "report_every", "validate_every"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name}={getattr(self, name)}: must be at least 1")
        for name in ("learning_rate", "scale", "gradient_clip"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise UserError(f"training.{name}={value}: give a number above 0")
        for name in ("weight_decay", "margin", "frequency_mask", "time_mask"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise UserError(f"training.{name}={value}: give 0 or more")
        if self.warmup_steps >= self.num_steps:
            raise UserError(
                f"training.warmup_steps={self.warmup_steps}: must be fewer than training.num_steps="
                f"{self.num_steps}, as the learning rate falls after the warm-up"
            )
        if not 0 <= self.seed < _SEEDS:
            raise UserError(f"training.seed={self.seed}: give 0 or more, and less than {_SEEDS}")
        if self.margin_full_step <= self.margin_start_step:
            raise UserError("training.margin_full_step: must lie after training.margin_start_step")

    def margin_at(self, step: int) -> float:
        """The margin of the loss after so many steps, in radians."""
        length = self.margin_full_step - self.margin_start_step
        return self.margin * min(max((step - self.margin_start_step) / length, 0.0), 1.0)
