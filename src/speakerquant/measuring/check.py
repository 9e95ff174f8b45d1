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


@dataclass(frozen=True)
class FidelityCheck:
    """Compares engines with the simulations of their masks.

    Attributes:
        network: The FP32 network.
        table: Ranges of its layers.
        rounding: How weights of fewer than eight bits become integers.
        max_weight_bits: Most bits of integer weights.
        excerpts: Recordings ``[n_mels, T]`` to compare on (:func:`excerpts_of`).
        min_fidelity: Smallest cosine that counts as the same network.

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
        if not agreement >= self.min_fidelity:
            made = engine.provenance
            raise UserError(
                f"engine.min_fidelity={self.min_fidelity}: the {made.engine} engine of {mask.key} "
                f"({', '.join(made.environment.values())}) agrees with its simulation only to "
                f"{agreement:.5f}; its EER would not be a result"
            )
        return agreement


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
