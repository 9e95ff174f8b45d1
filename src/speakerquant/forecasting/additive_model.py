"""Embeddings of masks that were never built, from those of a few.

To first order, what the units of a mask change adds up: the embedding of a mask is that of a base mask plus,
for every unit that is lowered, what lowering it alone changes. (Allocations by Taylor expansion, such as
HAWQ, Dong et al., ICCV 2019, do so with losses; here it is the embeddings, from which any error rate
follows.) What the sum misses is mostly of second order, one part for each pair of lowered units. All these
parts are taken for normally distributed, those of pairs as large as the product of what both units change,
so that every measured mask tells something of all that share lowered units with it, and how far a prediction
may be off: kriging, with units and pairs for features (Rasmussen and Williams: "Gaussian processes for
machine learning", 2006, chapter 2; what is not known of the covariance is where their likelihood, equation
5.8, is highest).
"""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from speakerquant.forecasting.additive_number import AdditiveNumber, Ranks
from speakerquant.statistics.scores import Embeddings

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_HIGHER_ORDERS = 0.05  # variance beyond the second order, as a share of that of the second order
_FIRST_GUESS = (0.3, 0.0)  # correlation of a unit's ranks, and the logarithm of what pairs are scaled by
_BOUNDS = ((0.0, 0.99), (-9.0, 9.0))
_ROUNDING = 1e-7  # share of variances that is added to each, so that their covariance can be inverted


class AdditiveModel:
    """Predicts the embeddings of masks as sums of vectors.

    Args:
        base: Embeddings ``[num_recordings, dim]`` of the base mask.
        measured: Those of other masks, by ranks; each unit lowered alone among them.
    """

    def __init__(self, base: Embeddings, measured: Mapping[Ranks, Embeddings]) -> None:
        self._measured = np.array(list(measured), np.int64)
        changes = np.stack([embeddings - base for embeddings in measured.values()])
        self.vectors: npt.NDArray[np.float32] = np.concatenate([base[None], changes]).astype(np.float32)
        """What predictions are sums of, ``[num_vectors, num_recordings, dim]``."""
        products = np.tensordot(changes, changes, ([1, 2], [1, 2])).astype(np.float64) / len(base)
        self._energy = AdditiveNumber(0.0, dict(zip(measured, np.diag(products), strict=True)))
        self._correlation, self._pairs = self._most_likely(products)
        self._inverse = np.linalg.inv(self._covariance(self._correlation, self._pairs))

    def coefficients(self, ranks: Indices) -> Array:
        """Factors of the vectors, ``[num_masks, num_vectors]``, for masks ``[num_masks, num_units]``.

        A mask that was measured gets nearly its own embeddings.
        """
        return _after_base(self._kernel(ranks) @ self._inverse)

    def deviations(self, ranks: Indices) -> Array:
        """How far predicted embeddings are off, root mean square over recordings, ``[num_masks]``."""
        shared = self._kernel(ranks)
        first, pairs = self._own(ranks)
        own = first + (1 + _HIGHER_ORDERS) * self._pairs * pairs
        left = own - np.einsum("mj,jk,mk->m", shared, self._inverse, shared)
        return np.sqrt(np.where(left > 10 * _ROUNDING * own, left, 0))

    def energies(self, ranks: Indices) -> Array:
        """Sum of the mean squares of what each lowered unit of masks changes alone, ``[num_masks]``."""
        return self._energy.of(ranks)

    def left_out(self) -> tuple[Array, Array]:
        """Coefficients and deviations of each measured mask as they are without it."""
        precision = np.diag(self._inverse)
        without = -self._inverse / precision[:, None]
        np.fill_diagonal(without, 0)
        return _after_base(without), np.sqrt(1 / precision)

    def _most_likely(self, products: Array) -> tuple[float, float]:
        """Correlation of what a unit changes at two ranks, and what the parts of pairs are scaled by."""
        typical = float(np.diag(products).mean())

        def unlikelihood(guess: Array) -> float:
            covariance = self._covariance(guess[0], np.exp(guess[1]) / typical)
            _, logarithm = np.linalg.slogdet(covariance)
            return float(logarithm + np.trace(np.linalg.solve(covariance, products)))

        found = minimize(unlikelihood, _FIRST_GUESS, method="L-BFGS-B", bounds=_BOUNDS).x
        return float(found[0]), float(np.exp(found[1]) / typical)

    def _covariance(self, correlation: float, scale: float) -> Array:
        """Of what the measured masks change, ``[num_measured, num_measured]``."""
        first, pairs = self._terms(self._measured, self._measured, correlation)
        covariance = first + scale * (pairs + _HIGHER_ORDERS * np.diag(np.diag(pairs)))
        variances = np.diag(covariance)
        return covariance + _ROUNDING * np.diag(variances + variances.mean())

    def _kernel(self, ranks: Indices) -> Array:
        """Covariance of what masks and measured ones change, ``[num_masks, num_measured]``."""
        first, pairs = self._terms(ranks, self._measured, self._correlation)
        return first + self._pairs * pairs

    def _terms(self, ranks: Indices, others: Indices, correlation: float) -> tuple[Array, Array]:
        """Covariances by the units that two masks lower, and by the pairs of these."""
        by_unit = (
            shared[rank][:, other]
            for shared, rank, other in zip(self._shared(correlation), ranks.T, others.T, strict=True)
        )
        return _sums(by_unit, (len(ranks), len(others)))

    def _own(self, ranks: Indices) -> tuple[Array, Array]:
        """The same of each mask with itself, ``[num_masks]``."""
        by_unit = (energies[rank] for energies, rank in zip(self._energy.changes, ranks.T, strict=True))
        return _sums(by_unit, (len(ranks),))

    def _shared(self, correlation: float) -> Array:
        """Covariance of what each unit changes at two ranks, ``[num_units, num_ranks, num_ranks]``."""
        roots = np.sqrt(self._energy.changes)
        alike = np.full((roots.shape[1],) * 2, correlation)
        np.fill_diagonal(alike, 1)
        shared: Array = roots[:, :, None] * roots[:, None, :] * alike
        return shared


def _sums(by_unit: Iterable[Array], shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Sum of terms, and of the products of every two of them."""
    total, squares = np.zeros(shape), np.zeros(shape)
    for term in by_unit:
        total += term
        squares += term**2
    return total, (total**2 - squares) / 2


def _after_base(coefficients: Array) -> Array:
    """With the base, whole, before them."""
    return np.hstack([np.ones((len(coefficients), 1)), coefficients])
