"""Embeddings of masks that were never built, from those of a few.

To first order, what the units of a mask change adds up: the embedding of a mask is that of a base mask plus,
for every unit that is lowered, what lowering it alone changes. (Allocations by Taylor expansion, such as
HAWQ, Dong et al., ICCV 2019, do so with losses; here it is the embeddings, from which any error rate
follows.) What the sum misses is mostly of second order, one part for each pair of lowered units. Such parts
are taken for independent and as large as the product of what both units change, so that masks which were
measured tell something of all masks that share pairs with them, and how far a prediction may be off:
kriging, with pairs for features (Rasmussen and Williams: "Gaussian processes for machine learning", 2006,
chapter 2).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from speakerquant.statistics.scores import Embeddings

Array = npt.NDArray[np.float64]
Ranks = tuple[int, ...]
"""For every unit, in order, by how many steps its precision is lowered from the base's: 0 leaves it."""

_HIGHER_ORDERS = 0.05  # variance beyond the second order, as a share of that of the second order


class AdditiveModel:
    """Predicts the embeddings of masks as sums of vectors.

    Args:
        base: Embeddings ``[num_recordings, dim]`` of the base mask.
        alone: Those with one unit lowered, by unit and number of steps.
        measured: Those of masks with several lowered units, by ranks; at least one.
    """

    def __init__(
        self,
        base: Embeddings,
        alone: Mapping[tuple[int, int], Embeddings],
        measured: Mapping[Ranks, Embeddings],
    ) -> None:
        self._places = {step: place for place, step in enumerate(alone, start=1)}
        first = np.stack([base, *(embeddings - base for embeddings in alone.values())])
        self._energies = np.square(first[1:]).sum(axis=2).mean(axis=1).astype(np.float64)
        self._measured = np.array(list(measured), np.int64)
        missed = np.array(
            [
                embeddings - np.tensordot(self._first_order(np.array([ranks]))[0], first, 1)
                for ranks, embeddings in measured.items()
            ],
            np.float32,
        )
        self.vectors: npt.NDArray[np.float32] = np.concatenate([first, missed]).astype(np.float32)
        """What predictions are sums of, ``[num_vectors, num_recordings, dim]``."""
        kernel = self._kernel(self._measured, self._measured)
        self._inverse = np.linalg.inv(kernel + np.diag(_HIGHER_ORDERS * np.diag(kernel)))
        products = np.tensordot(missed, missed, ([1, 2], [1, 2])) / len(base)
        self._scale = float((self._inverse * products).sum() / len(missed))

    def coefficients(self, ranks: npt.NDArray[np.int64]) -> Array:
        """Factors of the vectors, ``[num_masks, num_vectors]``, for masks ``[num_masks, num_units]``.

        A mask that was measured gets nearly its own embeddings.
        """
        missed: Array = self._kernel(ranks, self._measured) @ self._inverse
        return np.hstack([self._first_order(ranks), missed])

    def deviations(self, ranks: npt.NDArray[np.int64]) -> Array:
        """How far predicted embeddings are off, root mean square over recordings, ``[num_masks]``."""
        shared = self._kernel(ranks, self._measured)
        own = (1 + _HIGHER_ORDERS) * self._kernel_of_itself(ranks)
        known = np.einsum("mj,jk,mk->m", shared, self._inverse, shared)
        deviations: Array = np.sqrt(self._scale * np.maximum(own - known, 0))
        return deviations

    def energies(self, ranks: npt.NDArray[np.int64]) -> Array:
        """Sum of the mean squares of what each lowered unit of masks changes alone, ``[num_masks]``."""
        energies: Array = self._first_order(ranks)[:, 1:] @ self._energies
        return energies

    def left_out(self) -> tuple[Array, Array]:
        """Coefficients and deviations of each measured mask as they are without it."""
        precision = np.diag(self._inverse)
        without = -self._inverse / precision[:, None]
        np.fill_diagonal(without, 0)
        coefficients = np.hstack([self._first_order(self._measured), without])
        return coefficients, np.sqrt(self._scale / precision)

    def _first_order(self, ranks: npt.NDArray[np.int64]) -> Array:
        chosen = np.zeros((len(ranks), 1 + len(self._places)))
        chosen[:, 0] = 1
        for (unit, steps), place in self._places.items():
            chosen[:, place] = ranks[:, unit] == steps
        return chosen

    def _kernel(self, ranks: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> Array:
        """Sum over the pairs of steps that two masks share of the product of their energies."""
        left, right = (self._first_order(each)[:, 1:] for each in (ranks, others))
        singles = left @ (self._energies[:, None] * right.T)
        squares = left @ (np.square(self._energies)[:, None] * right.T)
        pairs: Array = (np.square(singles) - squares) / 2
        return pairs

    def _kernel_of_itself(self, ranks: npt.NDArray[np.int64]) -> Array:
        chosen = self._first_order(ranks)[:, 1:]
        pairs: Array = (np.square(chosen @ self._energies) - chosen @ np.square(self._energies)) / 2
        return pairs
