"""Checks that an engine computes what its mask says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import nn

from speakerquant.audio.features import FeatureArray
from speakerquant.engine.base import Engine
from speakerquant.errors import UserError
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.prepared import PreparedModel
from speakerquant.statistics.scores import Embeddings

_SHORTEST_SECONDS, _LONGEST_SECONDS = 1.0, 3.0
_NOISE = 1e-5  # of the features' deviation: what sums of FP32 in another order differ by
_NUM_DISTURBANCES = 3
_TIMES_SENSITIVITY = 2

Embed: TypeAlias = Callable[[Sequence[FeatureArray]], Embeddings]
"""Features ``[n_mels, T]`` of recordings to embeddings ``[num_recordings, dim]``."""


def embedding_by(engine: Engine) -> Embed:
    """What embeds recordings by an engine."""
    return lambda features: np.stack([*engine.embed_many(features)])


@dataclass(frozen=True)
class Agreement:
    """How nearly two ways to compute the same network agree.

    Attributes:
        cosine: Smallest between their embeddings.
        itself: The same between embeddings of the second way and its own under noise of the size of rounding
            errors, which a network may amplify; 1 if the first cosine needs no excuse. Noise is drawn until
            it excuses that, three times at most.
        is_enough: Whether they are further apart than asked for by no more than twice what noise moves them.
    """

    cosine: float
    itself: float
    is_enough: bool

    @classmethod
    def of(
        cls,
        embed: Embed,
        reference: Embed,
        recordings: Sequence[FeatureArray],
        smallest: float,
        expected: Embeddings | None = None,
    ) -> "Agreement":
        """Compare two ways to embed.

        Args:
            embed: The first way.
            reference: The second way, which the first is held against.
            recordings: Features ``[n_mels, T]`` to compare on.
            smallest: The cosine that needs no excuse.
            expected: What the second way gives for the recordings, where that is known.
        """
        expected = reference(recordings) if expected is None else expected
        cosine = fidelity(embed(recordings), expected)
        if cosine >= smallest:
            return cls(cosine, 1.0, True)
        itself = 1.0
        for seed in range(_NUM_DISTURBANCES):
            itself = min(itself, fidelity(reference(_disturbed(recordings, seed)), expected))
            if cosine >= smallest - _TIMES_SENSITIVITY * (1 - itself):
                return cls(cosine, itself, True)  # which further noise would not change
        return cls(cosine, itself, False)


@dataclass(frozen=True)
class Simulation:
    """A mask as PyTorch computes it.

    Attributes:
        mask: The mask.
        network: The network with its integers.
        embeddings: Of the excerpts that engines are checked on, ``[num_excerpts, dim]``.
    """

    mask: Mask
    network: nn.Module
    embeddings: Embeddings


@dataclass(frozen=True)
class FidelityCheck:
    """Compares engines with the simulations of their masks.

    Attributes:
        excerpts: Recordings ``[n_mels, T]`` to compare on (:func:`excerpts_of`).
        min_fidelity: Smallest cosine that counts as the same network, unless rounding errors excuse a smaller
            one (:class:`Agreement`): two right engines of a network that amplifies them differ.
    """

    excerpts: Sequence[FeatureArray]
    min_fidelity: float

    def simulate(self, prepared: PreparedModel, mask: Mask) -> Simulation:
        """What an engine of the mask on a prepared network must give.

        Raises:
            UserError: the network itself gives embeddings that are not finite.
        """
        network = prepared.simulate(mask)
        embeddings = embed_with_network(network, self.excerpts)
        if not np.isfinite(embeddings).all():
            raise UserError(
                f"{mask.key}: the network itself, as PyTorch computes it, gives embeddings that are not "
                "finite; check the checkpoint"
            )
        return Simulation(mask, network, embeddings)

    def check(self, engine: Engine, simulation: Simulation) -> float:
        """The fidelity of an engine.

        Raises:
            UserError: it is too small: the engine does not compute what the mask says.
        """
        agreement = Agreement.of(
            embedding_by(engine),
            lambda features: embed_with_network(simulation.network, features),
            self.excerpts,
            self.min_fidelity,
            simulation.embeddings,
        )
        if not agreement.is_enough:
            made = engine.provenance
            raise UserError(
                f"engine.min_fidelity={self.min_fidelity}: the {made.engine} engine of {simulation.mask.key} "
                f"({', '.join(made.environment.values())}) agrees with its simulation only to "
                f"{agreement.cosine:.5f}, which agrees with itself under rounding errors to "
                f"{agreement.itself:.5f}; its EER would not be a result"
            )
        return agreement.cosine


def _disturbed(recordings: Sequence[FeatureArray], seed: int) -> list[FeatureArray]:
    """Features with noise of the size of rounding errors."""
    generator = np.random.default_rng(seed)
    return [
        features + generator.normal(scale=_NOISE * features.std(), size=features.shape).astype(np.float32)
        for features in recordings
    ]


def excerpts_of(
    recordings: Sequence[FeatureArray], frames_per_second: float, min_frames: int
) -> list[FeatureArray]:
    """The middle 1 to 3 s of each recording ``[n_mels, T]``, of as many lengths as there are recordings.

    They are longer where a network takes no fewer than ``min_frames``. Whole recordings show no other
    disagreement, and simulating them takes four times as long.
    """
    seconds = np.linspace(_SHORTEST_SECONDS, _LONGEST_SECONDS, len(recordings))
    excerpts = []
    for recording, length in zip(recordings, seconds, strict=True):
        frames = min(max(round(length * frames_per_second), min_frames), recording.shape[1])
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
