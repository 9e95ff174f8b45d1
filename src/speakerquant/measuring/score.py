"""Scores a trial list and judges the scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speakerquant.corpus.trials import Trials
from speakerquant.measuring.protocol import Protocol
from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.scores import Embeddings


@dataclass(frozen=True)
class Scored:
    """Error rates of scored trials.

    Attributes:
        scores: ``[num_trials]``, in the order of the list.
        eer: Equal error rate in percent.
        min_dcfs: Normalised minimum detection costs by the names of their metrics.
    """

    scores: npt.NDArray[np.float64]
    eer: float
    min_dcfs: Mapping[str, float]


def score_trials(
    embeddings: Embeddings,
    trials: Trials,
    protocol: Protocol,
    embed_cohort: Callable[[], Embeddings],
) -> Scored:
    """Score ``trials`` by ``protocol``.

    Args:
        embeddings: ``[num_recordings, dim]`` of the trials' recordings.
        trials: Pairs to score.
        protocol: How they are scored.
        embed_cohort: Embeds the recordings of the cohort, should the protocol have one.

    Raises:
        UserError: an embedding cannot be used.
    """
    scores = protocol.scores(embeddings, trials, embed_cohort)
    return Scored(scores, eer(scores, trials.labels), protocol.min_dcfs(scores, trials.labels))
