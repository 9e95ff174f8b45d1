"""How masks are prepared and checked."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from speakerquant.architectures.units import Granularity
from speakerquant.errors import UserError
from speakerquant.quantization.calibration import check_method
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.rounding_method import RoundingMethod
from speakerquant.recovery.settings import RecoverySettings


@dataclass(frozen=True)
class EvaluationSettings:
    """What can be chosen beside network, recordings, engine and protocol.

    Attributes:
        units: The size of the units that masks give precisions to.
        method: How the ranges of inputs are chosen (:func:`speakerquant.quantization.calibration.calibrate`).
        percentile: Read by the method of that name.
        rounding: How weights of fewer than eight bits become integers.
        rounding_recordings: How many pieces of recordings weights are rounded for.
        recovery: How masks are trained after that, should they be.
        weight_bits: Most bits of integer weights; none: what the engine computes exactly.
        min_fidelity: Smallest cosine at which an engine counts as the network that its mask describes.
        fidelity_recordings: How many of the calibration recordings engines are checked on.
        latency_requests: How many requests are timed; 0 leaves them untimed.
        channel: Which channel of the recordings is taken, from 1; none averages them.

    Raises:
        UserError: one of them is impossible.
    """

    units: Granularity = Granularity.block
    method: str = "percentile"
    percentile: float = 99.99
    rounding: RoundingMethod = RoundingMethod.descent
    rounding_recordings: int = 800
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    weight_bits: int | None = None
    min_fidelity: float = 0.999
    fidelity_recordings: int = 8
    latency_requests: int = 0
    channel: int | None = None

    @property
    def rounding_in_words(self) -> str:
        """Method and number of pieces, such as ``descent for 800 pieces of recordings``."""
        if self.rounding is RoundingMethod.nearest:
            return self.rounding.name
        return f"{self.rounding.name} for {self.rounding_recordings} pieces of recordings"

    def needs_rounding_speech(self, masks: Iterable[Mask], searched: Collection[str] = ()) -> bool:
        """Whether one of the masks has weights that are rounded, or recovered, for speech.

        Args:
            masks: Any.
            searched: Groups of settings; with ``rounding`` or ``recovery``, whether that is done changes.
        """
        precisions = {precision for mask in masks for precision in mask.values()}
        is_recovered = self.recovery.steps > 0 or "recovery" in searched
        is_rounded = self.rounding is not RoundingMethod.nearest or "rounding" in searched
        return (is_recovered and any(precision.weights for precision in precisions)) or (
            is_rounded and any(precision.has_fitted_scales for precision in precisions)
        )

    def __post_init__(self) -> None:
        if self.latency_requests < 0:
            raise UserError(
                f"engine.latency_requests={self.latency_requests}: give how many to time; 0 times none"
            )
        if self.fidelity_recordings < 1:
            raise UserError(
                f"engine.fidelity_recordings={self.fidelity_recordings}: "
                "the engine must be checked on at least 1 recording"
            )
        if math.isnan(self.min_fidelity):
            raise UserError(
                "engine.min_fidelity=nan: give the smallest cosine that counts as agreement, below 1"
            )
        if self.channel is not None and self.channel < 1:
            raise UserError(f"data.channel={self.channel}: channels are counted from 1; null averages them")
        check_method(self.method, self.percentile)
