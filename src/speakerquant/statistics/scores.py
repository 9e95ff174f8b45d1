"""Scores of trials from the embeddings of their recordings, and their normalisation against a cohort."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speakerquant.errors import UserError

_LEAST_DEVIATION = 1e-6  # of cosines; that of equal ones is 0 but for rounding
_CHUNK = 256  # trials at once: both sides stay in the processor's cache

Embeddings = npt.NDArray[np.float32]
"""Of recordings, ``[num_recordings, dim]``."""


@dataclass(frozen=True)
class CohortStatistics:
    """Mean and standard deviation of each recording's scores against the cohort, ``[num_recordings]``."""

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]


def cosine_scores(
    embeddings: npt.ArrayLike, left: npt.ArrayLike, right: npt.ArrayLike, names: Sequence[str] | None = None
) -> npt.NDArray[np.float64]:
    """Cosine of the angle between the two embeddings of each trial.

    Memory beyond the result is bounded, whatever the number of trials.

    Args:
        embeddings: ``[num_recordings, dim]``.
        left: ``[num_trials]`` indices of recordings.
        right: ``[num_trials]`` indices of recordings.
        names: Names of the recordings, to say which one cannot be used.

    Returns:
        ``[num_trials]``, from -1 to 1.

    Raises:
        UserError: an embedding is zero or not finite; names the recording, or its index.
    """
    unit = _normalised(embeddings, names=names)
    left, right = np.asarray(left), np.asarray(right)
    scores = np.empty(len(left), np.float64)
    for start in range(0, len(left), _CHUNK):
        part = slice(start, start + _CHUNK)
        np.einsum("td,td->t", unit[left[part]], unit[right[part]], out=scores[part])
    return scores


def cohort_statistics(
    embeddings: npt.ArrayLike, cohort: npt.ArrayLike, top_n: int | None = None
) -> CohortStatistics:
    """Statistics of cosine scores against the cohort, for :func:`normalised_scores`.

    Args:
        embeddings: ``[num_recordings, dim]``.
        cohort: ``[num_cohort, dim]``, of speakers that are in no trial.
        top_n: How many of each recording's highest scores count (AS-norm); none counts all (S-norm).

    Raises:
        UserError: the cohort is smaller than ``top_n`` or than 2, or an embedding is unusable.
    """
    unit, unit_cohort = _normalised(embeddings), _normalised(cohort, "cohort recording")
    check_cohort(len(unit_cohort), top_n)
    kept = len(unit_cohort) if top_n is None else top_n
    statistics = np.empty((2, len(unit)))
    for start in range(0, len(unit), _CHUNK):
        part = slice(start, start + _CHUNK)
        scores = unit[part] @ unit_cohort.T
        highest = np.partition(scores, -kept, axis=1)[:, -kept:]
        statistics[:, part] = highest.mean(axis=1), highest.std(axis=1)
    if not (statistics[1] > _LEAST_DEVIATION).all():
        raise UserError("scoring.cohort: all its recordings score alike; name recordings of many speakers")
    return CohortStatistics(*statistics)


def check_cohort(num_recordings: int, top_n: int | None) -> None:
    """Whether a cohort is large enough for :func:`cohort_statistics`.

    Raises:
        UserError: it is smaller than ``top_n`` or than 2.
    """
    if num_recordings < 2:
        raise UserError("scoring.cohort: holds a single recording; name recordings of many speakers")
    if top_n is not None and not 2 <= top_n <= num_recordings:
        raise UserError(
            f"scoring.top_n={top_n}: must be from 2 to the cohort's {num_recordings} recordings; "
            "lower it or name a larger cohort"
        )


def normalised_scores(
    scores: npt.NDArray[np.float64], left: npt.ArrayLike, right: npt.ArrayLike, statistics: CohortStatistics
) -> npt.NDArray[np.float64]:
    """Symmetric normalisation: the mean of each side's standard score.

    S-norm (Kenny: "Bayesian speaker verification with heavy-tailed priors", Odyssey 2010), or AS-norm
    (Matejka et al.: "Analysis of score normalization in multilingual speaker recognition", Interspeech 2017,
    AS-norm1), by how the statistics were made.

    Args:
        scores: ``[num_trials]``.
        left: ``[num_trials]`` indices of recordings.
        right: ``[num_trials]`` indices of recordings.
        statistics: Statistics of the recordings.
    """
    sides = [np.asarray(side) for side in (left, right)]
    first, second = ((scores - statistics.mean[side]) / statistics.deviation[side] for side in sides)
    normalised: npt.NDArray[np.float64] = (first + second) / 2
    return normalised


def _normalised(
    embeddings: npt.ArrayLike, of: str = "recording", names: Sequence[str] | None = None
) -> npt.NDArray[np.float64]:
    embeddings = np.asarray(embeddings, np.float64)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    usable = np.isfinite(norms) & (norms > 0)
    if not usable.all():
        index = int(np.argmin(usable))
        state = "zero" if norms[index] == 0 else "not finite"
        which = names[index] if names else index
        raise UserError(f"scoring: the embedding of {of} {which} is {state}; check this recording")
    unit: npt.NDArray[np.float64] = embeddings / norms
    return unit
