"""Says whether recordings are of one speaker, by an engine and a threshold."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerquant.audio.features import extract_features
from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import Cache
from speakerquant.engine.base import Engine
from speakerquant.errors import UserError
from speakerquant.evaluation.metrics import error_rates
from speakerquant.evaluation.scoring import cosine_scores

Vector = npt.NDArray[np.float32]

FRONT_END, MIN_FRAMES = "front_end", "min_frames"
"""What an engine must tell of its network to be given recordings."""


@dataclass(frozen=True)
class Verifier:
    """Scores recordings against enrolled speakers: the cosine of their embeddings.

    Attributes:
        engine: What embeds.
        front_end: Features that it takes.
        min_frames: Fewest frames that it takes.
        cache: Keeps features.
    """

    engine: Engine
    front_end: FrontEnd
    min_frames: int
    cache: Cache

    @classmethod
    def of(cls, engine: Engine, cache: Cache) -> "Verifier":
        """The verifier of an engine that tells its front end.

        Raises:
            UserError: it does not.
        """
        network = engine.provenance.network
        try:
            front_end = FrontEnd(**json.loads(network[FRONT_END]))
            return cls(engine, front_end, int(network[MIN_FRAMES]), cache)
        except (KeyError, ValueError, TypeError):
            raise UserError("the engine does not say what features it takes; build it again") from None

    def embed(self, recordings: Sequence[Path]) -> list[Vector]:
        """Embeddings ``[dim]`` of length 1 of recordings.

        Raises:
            UserError: a recording cannot be read, or is too short.
        """
        features = extract_features(recordings, self.front_end, self.cache).features
        for path, frames in zip(recordings, features.num_frames, strict=True):
            if frames < self.min_frames:
                raise UserError(f"{path}: {frames} frames, and the network needs {self.min_frames}")
        return [vector / np.linalg.norm(vector) for vector in self.engine.embed_many(features)]

    def score(self, enrolled: Sequence[Path], tested: Path) -> float:
        """The cosine between a recording and the mean of those that a speaker is enrolled with, -1 to 1.

        Raises:
            UserError: a recording cannot be read, or is too short.
        """
        *known, unknown = self.embed([*enrolled, tested])
        pair = np.stack([np.mean(known, axis=0), unknown])
        return float(cosine_scores(pair, [0], [1])[0])


def threshold_of(scores: npt.ArrayLike, labels: npt.ArrayLike, false_accepts: float | None = None) -> float:
    """The score from which on trials are accepted, chosen on trials whose truth is known.

    Args:
        scores: ``[num_trials]``.
        labels: ``[num_trials]``, true for target trials.
        false_accepts: Most percent of non-target trials that may be accepted; none takes the threshold of
            the equal error rate.

    Raises:
        UserError: the share is none, or as :func:`speakerquant.evaluation.metrics.error_rates`.
    """
    if false_accepts is not None and not 0 < false_accepts < 100:
        raise UserError(f"--false-accepts {false_accepts:g}: give percent, above 0 and below 100")
    far, frr = error_rates(scores, labels)
    accepted = frr >= far if false_accepts is None else far <= false_accepts / 100
    distinct = np.unique(np.asarray(scores, np.float64))
    return float(np.append(distinct, np.nextafter(distinct[-1], np.inf))[np.argmax(accepted)])
