"""Checks that an engine computes what its mask says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.features import FeatureArray
from speakerquant.engine.base import Engine
from speakerquant.errors import UserError
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding
from speakerquant.quantization.simulate import simulate

_SHORTEST_SECONDS, _LONGEST_SECONDS = 1.0, 3.0
_NOISE = 1e-5  # of the features' deviation: what sums of FP32 in another order differ by
_NUM_DISTURBANCES = 3
_TIMES_SENSITIVITY = 2


@dataclass(frozen=True)
class FidelityCheck:
    """Compares engines with the simulations of their masks.

    Attributes:
        network: The FP32 network.
        table: Ranges of its layers.
        rounding: How weights of fewer than eight bits become integers.
        max_weight_bits: Most bits of integer weights.
        excerpts: Recordings ``[n_mels, T]`` to compare on (:func:`excerpts_of`).
        min_fidelity: Smallest cosine that counts as the same network. An engine may be further away by twice
            what the simulation itself moves by under noise of the size of rounding errors: a network may
            amplify those, and two right engines then differ.

    Raises:
        UserError: there is nothing to compare on.
    """

    network: SpeakerNetwork
    table: CalibrationTable
    rounding: Rounding
    max_weight_bits: int
    excerpts: Sequence[FeatureArray]
    min_fidelity: float

    def __post_init__(self) -> None:
        if not self.excerpts:
            raise UserError("engine.fidelity_recordings: the engine must be checked on at least 1 recording")

    def check(self, engine: Engine, mask: Mask) -> float:
        """The fidelity of the engine.

        Raises:
            UserError: it is too small: the engine does not compute what the mask says.
        """
        simulated = simulate(self.network, mask, self.table, self.max_weight_bits, self.rounding)
        reference = embed_with_network(simulated, self.excerpts)
        agreement = fidelity(np.stack(list(engine.embed_many(self.excerpts))), reference)
        if agreement >= self.min_fidelity:
            return agreement
        disturbed = (_disturbed(self.excerpts, seed) for seed in range(_NUM_DISTURBANCES))
        itself = min(fidelity(embed_with_network(simulated, each), reference) for each in disturbed)
        if not agreement >= self.min_fidelity - _TIMES_SENSITIVITY * (1 - itself):
            made = engine.provenance
            raise UserError(
                f"engine.min_fidelity={self.min_fidelity}: the {made.engine} engine of {mask.key} "
                f"({', '.join(made.environment.values())}) agrees with its simulation only to "
                f"{agreement:.5f}, which agrees with itself under rounding errors to {itself:.5f}; "
                "its EER would not be a result"
            )
        return agreement


def _disturbed(recordings: Sequence[FeatureArray], seed: int) -> list[FeatureArray]:
    """Features with noise of the size of rounding errors."""
    generator = np.random.default_rng(seed)
    return [
        features + generator.normal(scale=_NOISE * features.std(), size=features.shape).astype(np.float32)
        for features in recordings
    ]


def excerpts_of(recordings: Sequence[FeatureArray], frames_per_second: float) -> list[FeatureArray]:
    """The middle 1 to 3 s of each recording ``[n_mels, T]``, of as many lengths as there are recordings.

    Whole recordings show no other disagreement, and simulating them takes four times as long.
    """
    seconds = np.linspace(_SHORTEST_SECONDS, _LONGEST_SECONDS, len(recordings))
    excerpts = []
    for recording, length in zip(recordings, seconds, strict=True):
        frames = min(round(length * frames_per_second), recording.shape[1])
        start = (recording.shape[1] - frames) // 2
        excerpts.append(np.ascontiguousarray(recording[:, start : start + frames]))
    return excerpts


def fidelity(embeddings: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float:
    """Smallest cosine between rows ``[N, dim]`` of an engine's embeddings and of the simulation's.

    NaN if any row holds NaN.
    """
    a, b = embeddings.astype(np.float64), reference.astype(np.float64)
    cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(cosines.min())
