"""Scores of trials from the embeddings of their recordings."""

import numpy as np
import numpy.typing as npt

from speakerquant.errors import UserError

_CHUNK = 256  # trials at once: both sides stay in the processor's cache


def cosine_scores(
    embeddings: npt.ArrayLike, left: npt.ArrayLike, right: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Cosine of the angle between the two embeddings of each trial.

    Memory beyond the result is bounded, whatever the number of trials.

    Args:
        embeddings: ``[num_recordings, dim]``.
        left: ``[num_trials]`` indices of recordings.
        right: ``[num_trials]`` indices of recordings.

    Returns:
        ``[num_trials]``, from -1 to 1.

    Raises:
        UserError: an embedding is zero or not finite; names the recording's index.
    """
    unit = _normalised(embeddings)
    left, right = np.asarray(left), np.asarray(right)
    scores = np.empty(len(left), np.float64)
    for start in range(0, len(left), _CHUNK):
        part = slice(start, start + _CHUNK)
        np.einsum("td,td->t", unit[left[part]], unit[right[part]], out=scores[part])
    return scores


def _normalised(embeddings: npt.ArrayLike) -> npt.NDArray[np.float64]:
    embeddings = np.asarray(embeddings, np.float64)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    usable = np.isfinite(norms) & (norms > 0)
    if not usable.all():
        index = int(np.argmin(usable))
        state = "zero" if norms[index] == 0 else "not finite"
        raise UserError(f"scoring: the embedding of recording {index} is {state}; check this recording")
    unit: npt.NDArray[np.float64] = embeddings / norms
    return unit
