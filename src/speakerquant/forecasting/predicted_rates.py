"""Equal error rates of many masks at once, from embeddings that are sums of the same vectors.

The inner product of two such embeddings is a quadratic form in their coefficients, so inner products of the
vectors are computed once for each trial, and the scores of a thousand masks are a matrix product. Only
trials near the threshold decide an EER: the rest of the list stays on its side, or the whole list is scored.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.scores import cosine_scores

Array = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]

_MARGIN = 8  # times the EER of the first vector is the share of each kind of trial that is near the threshold
_LEAST_SHARE = 0.1
_REACH = 4  # standard deviations of what masks move scores by must not lead across the threshold from farther
_TRIALS, _MASKS = 512, 256  # at once


class PredictedRates:
    """Scores masks on a list of trials.

    Args:
        vectors: ``[num_vectors, num_recordings, dim]``; the first is the embedding of a mask, the others
            change it.
        left: ``[num_trials]`` indices of recordings.
        right: ``[num_trials]`` indices of recordings.
        labels: ``[num_trials]``, true for target trials.
    """

    def __init__(
        self, vectors: Single, left: npt.ArrayLike, right: npt.ArrayLike, labels: npt.ArrayLike
    ) -> None:
        self._vectors = vectors
        self._left, self._right, self._labels = (np.asarray(each) for each in (left, right, labels))
        scores = cosine_scores(vectors[0], self._left, self._right)
        share = max(_LEAST_SHARE, _MARGIN * eer(scores, self._labels) / 100)
        targets, others = (
            kind[np.argsort(sign * scores[kind])[: math.ceil(share * len(kind))]]
            for kind, sign in ((np.flatnonzero(self._labels), 1), (np.flatnonzero(~self._labels), -1))
        )
        self._num_targets = int(self._labels.sum())
        self._num_others = len(self._labels) - self._num_targets
        self._num_near_targets = len(targets)
        self._pairs = np.triu_indices(len(vectors))
        near = np.concatenate([targets, others])
        self._first_scores = scores[near]
        every = np.arange(vectors.shape[1])
        self._norms = self._products(every, every)
        self._near = self._products(self._left[near], self._right[near])
        self._sides = self._left[near], self._right[near]

    def eers(self, coefficients: Array) -> Array:
        """EER in percent of masks with these coefficients of the vectors ``[num_masks, num_vectors]``."""
        found = np.concatenate([*self._some(coefficients)]) if len(coefficients) else np.empty(0)
        for place in np.flatnonzero(np.isnan(found)):
            found[place] = eer(self.scores(coefficients[place]), self._labels)
        return found

    def scores(self, coefficients: Array) -> Array:
        """Scores of one mask, ``[num_trials]``."""
        embeddings = np.tensordot(coefficients.astype(np.float32), self._vectors, 1)
        return cosine_scores(embeddings, self._left, self._right)

    def _products(self, left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]) -> Single:
        """Inner products of every pair of vectors across trials, both ways, ``[num_pairs, num_trials]``."""
        first, second = self._pairs
        products = np.empty((len(first), len(left)), np.float32)
        vectors = self._vectors.transpose(1, 0, 2)
        for start in range(0, len(left), _TRIALS):
            part = slice(start, start + _TRIALS)
            across = vectors[left[part]] @ vectors[right[part]].transpose(0, 2, 1)
            both = across[:, first, second] + across[:, second, first]
            products[:, part] = np.where(first == second, both / 2, both).T
        return products

    def _some(self, coefficients: Array) -> Iterator[Array]:
        first, second = self._pairs
        for start in range(0, len(coefficients), _MASKS):
            chosen = coefficients[start : start + _MASKS].astype(np.float32)
            weights = chosen[:, first] * chosen[:, second]
            lengths = np.sqrt(weights @ self._norms)
            scores = weights @ self._near
            scores /= lengths[:, self._sides[0]] * lengths[:, self._sides[1]]
            yield np.array([self._eer(each) for each in scores])

    def _eer(self, scores: Single) -> float:
        """As :func:`speakerquant.statistics.error_rates.eer`; NaN if trials that are not near may decide it.

        As the threshold rises, FAR and FRR cross where it rejects a target trial, at the FAR there, or where
        it rejects another one, at the FRR there.
        """
        count = self._num_near_targets
        targets, others = np.sort(scores[:count]), np.sort(scores[count:])
        accepted = len(others) - np.searchsorted(others, targets)
        far, missed = accepted / self._num_others, np.arange(len(targets)) / self._num_targets
        crossed = missed + 1 / self._num_targets >= far
        place = int(np.argmax(crossed))
        moved = scores - self._first_scores
        reach = abs(moved.mean()) + _REACH * moved.std()
        farthest = (
            self._first_scores[:count].max() - targets[place],
            targets[place] - self._first_scores[count:].min(),
        )
        if not crossed[place] or min(farthest) < reach:
            return np.nan
        return float(100 * max(missed[place], far[place]))
