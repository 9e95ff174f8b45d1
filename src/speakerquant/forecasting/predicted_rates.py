"""Equal error rates of many masks at once, from embeddings that are sums of the same vectors.

The inner product of two such embeddings is a quadratic form in their coefficients, so inner products of the
vectors are computed once for each trial, and the scores of a thousand masks are a matrix product. Only
trials near the threshold decide an EER: most of the list stays on its side. For masks that move scores far,
more of it is looked at, and at last the whole list, mask by mask.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from speakerquant.statistics.error_rates import eer
from speakerquant.statistics.scores import Embeddings, cosine_scores

Array = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Indices = npt.NDArray[np.integer]

_MARGIN = 8  # times the EER of the first vector is the share of each kind of trial that is near the threshold
_LEAST_SHARE = 0.1
_MOST_BYTES = 2**29  # for inner products of a share of the trials
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
        self._first_scores = cosine_scores(vectors[0], self._left, self._right)
        self._share = max(_LEAST_SHARE, _MARGIN * eer(self._first_scores, self._labels) / 100)
        self._pairs = np.triu_indices(len(vectors))
        every = np.arange(vectors.shape[1])
        self._norms = self._products(every, every)

    def eers(self, coefficients: Array) -> Array:
        """EER in percent of masks with these coefficients of the vectors ``[num_masks, num_vectors]``."""
        found = np.full(len(coefficients), np.nan)
        for decide in (self._by_nearest, self._by_more, self._by_all):
            open_ones = np.flatnonzero(np.isnan(found))
            if len(open_ones):
                found[open_ones] = decide(coefficients[open_ones])
        return found

    def embeddings(self, coefficients: Array) -> Embeddings:
        """Embeddings of one mask, ``[num_recordings, dim]``."""
        return np.tensordot(coefficients.astype(np.float32), self._vectors, 1)

    def _by_nearest(self, coefficients: Array) -> Array:
        return self._by_near(self._nearest, coefficients)

    def _by_more(self, coefficients: Array) -> Array:
        return self._by_near(self._more, coefficients)

    def _by_all(self, coefficients: Array) -> Array:
        return np.array(
            [
                eer(cosine_scores(self.embeddings(each), self._left, self._right), self._labels)
                for each in coefficients
            ]
        )

    @cached_property
    def _nearest(self) -> "_NearTrials":
        return self._near(min(self._share, self._room))

    @cached_property
    def _more(self) -> "_NearTrials":
        """As many as there is room for."""
        return self._near(self._room) if self._room > self._share else self._nearest

    @property
    def _room(self) -> float:
        """The share of the trials whose products are held."""
        return _MOST_BYTES / (len(self._pairs[0]) * len(self._labels) * np.float32().itemsize)

    def _near(self, share: float) -> "_NearTrials":
        targets, others = (
            kind[np.argsort(sign * self._first_scores[kind])[: max(1, math.ceil(min(1, share) * len(kind)))]]
            for kind, sign in ((np.flatnonzero(self._labels), 1), (np.flatnonzero(~self._labels), -1))
        )
        near = np.concatenate([targets, others])
        left, right = self._left[near], self._right[near]
        num_targets = int(self._labels.sum())
        return _NearTrials(
            left,
            right,
            self._first_scores[near],
            self._products(left, right),
            num_targets,
            len(self._labels) - num_targets,
            len(targets),
        )

    def _by_near(self, near: "_NearTrials", coefficients: Array) -> Array:
        """EERs; NaN where trials that are not near may decide."""
        return np.concatenate([*self._some(near, coefficients)])

    def _products(self, left: Indices, right: Indices) -> Single:
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

    def _some(self, near: "_NearTrials", coefficients: Array) -> Iterator[Array]:
        first, second = self._pairs
        for start in range(0, len(coefficients), _MASKS):
            chosen = coefficients[start : start + _MASKS].astype(np.float32)
            weights = chosen[:, first] * chosen[:, second]
            lengths = np.sqrt(weights @ self._norms)
            scores = weights @ near.products
            scores /= lengths[:, near.left] * lengths[:, near.right]
            yield np.array([near.eer(each) for each in scores])


@dataclass(frozen=True, eq=False)
class _NearTrials:
    """The trials whose scores by the first vector are nearest to the threshold, target trials before others.

    Attributes:
        left: ``[num_near]`` indices of recordings.
        right: The same of the other side.
        first_scores: ``[num_near]``.
        products: Inner products of every pair of vectors across them, ``[num_pairs, num_near]``.
        num_targets: Target trials of the whole list.
        num_others: Other trials of the whole list.
        num_near_targets: How many of these are target trials.
    """

    left: Indices
    right: Indices
    first_scores: Array
    products: Single
    num_targets: int
    num_others: int
    num_near_targets: int

    def eer(self, scores: Single) -> float:
        """As :func:`speakerquant.statistics.error_rates.eer`; NaN if trials that are not near may decide it.

        As the threshold rises, FAR and FRR cross where it rejects a target trial, at the FAR there, or where
        it rejects another one, at the FRR there.
        """
        count = self.num_near_targets
        targets, others = np.sort(scores[:count]), np.sort(scores[count:])
        accepted = len(others) - np.searchsorted(others, targets)
        far, missed = accepted / self.num_others, np.arange(len(targets)) / self.num_targets
        crossed = missed + 1 / self.num_targets >= far
        place = int(np.argmax(crossed))
        if not crossed[place] or not self._is_decided(scores, float(targets[place])):
            return np.nan
        return float(100 * max(missed[place], far[place]))

    def _is_decided(self, scores: Single, threshold: float) -> bool:
        """Whether no trial beyond these can have been moved across the threshold."""
        if len(scores) == self.num_targets + self.num_others:
            return True
        count, moved = self.num_near_targets, scores - self.first_scores
        reach = abs(moved.mean()) + _REACH * moved.std()
        farthest = self.first_scores[:count].max() - threshold, threshold - self.first_scores[count:].min()
        return bool(min(farthest) >= reach)
