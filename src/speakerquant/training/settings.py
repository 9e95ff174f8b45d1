"""Settings of a training, without the training itself: every command reads the configuration's schema."""

from dataclasses import dataclass
from pathlib import Path

from speakerquant.errors import UserError


@dataclass
class AugmentationConfig:
    """Probability of each disturbance; noise level in dB below the speech.

    Noise and rooms are synthetic unless folders of recordings (such as MUSAN and RIRS_NOISES) are given.
    """

    room_probability: float = 0.4
    channel_probability: float = 0.5
    noise_probability: float = 0.6
    min_snr_db: float = 3.0
    max_snr_db: float = 25.0
    noise_root: Path | None = None
    room_root: Path | None = None


@dataclass
class TrainingConfig:
    """AdamW under a cosine schedule; the margin grows from 0 between two steps of the way."""

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
        if self.margin_full_step <= self.margin_start_step:
            raise UserError("training.margin_full_step: must lie after training.margin_start_step")
