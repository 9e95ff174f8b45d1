"""Numbers of masks that are sums of what their units change."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

Array = npt.NDArray[np.float64]
Ranks = tuple[int, ...]
"""For every unit, in order, by how many steps its precision is lowered from the base's: 0 leaves it."""

_LEAST = 1e-3  # of what a unit changes at its lowest, at any other rank
_PULL = 1e-3  # of shares towards their mean, beside the least squares, which may not tell some apart


class AdditiveNumber:
    """A number that is nearly the sum of a base's and of what every lowered unit changes alone.

    A rank that a unit was not measured at alone changes a share of what the lowest does that it was measured
    at: the same share for all units, which follows from masks with several lowered units.

    Args:
        base: The number of the base.
        measured: The numbers of masks, by ranks; masks with one lowered unit among them.

    Attributes:
        changes: What each unit changes at each rank, ``[num_units, num_ranks]``.
    """

    def __init__(self, base: float, measured: Mapping[Ranks, float]) -> None:
        ranks: npt.NDArray[np.int64] = np.array(list(measured), np.int64)
        changed = np.array([*measured.values()], np.float64) - base
        self._base = base
        self.changes = np.zeros((ranks.shape[1], ranks.max() + 1))
        known = np.zeros_like(self.changes, np.bool_)
        known[:, 0] = True
        at_lowest = np.zeros(ranks.shape[1])  # it stays 0 for a unit that was never lowered alone
        alone = np.flatnonzero(np.count_nonzero(ranks, axis=1) == 1)
        for row in alone[np.argsort(ranks[alone].max(axis=1))]:
            unit = int(np.argmax(ranks[row]))
            step = unit, ranks[row, unit]
            self.changes[step], known[step], at_lowest[unit] = changed[row], True, changed[row]
        shares = self._shares(ranks, changed, known, at_lowest)
        self.changes = np.where(known, self.changes, shares * at_lowest[:, None])

    def of(self, ranks: npt.NDArray[np.int64]) -> Array:
        """The number of masks ``[num_masks, num_units]``."""
        changes: Array = self.changes[np.arange(ranks.shape[1]), ranks].sum(axis=1)
        return self._base + changes

    def _shares(
        self, ranks: npt.NDArray[np.int64], changed: Array, known: npt.NDArray[np.bool_], at_lowest: Array
    ) -> Array:
        """For each rank, by least squares, what a unit changes there as a share of that at its lowest."""
        units, shares = np.arange(ranks.shape[1]), np.ones(known.shape[1])
        unknown = ~known[units, ranks]
        rest = changed - self.changes[units, ranks].sum(axis=1)
        sums = np.stack([((ranks == rank) & unknown) @ at_lowest for rank in range(len(shares))], axis=1)
        tell = sums.any(axis=1) & (changed != 0)
        asked = sums[tell].any(axis=0)
        if asked.any():
            relative = sums[tell][:, asked] / changed[tell, None]
            num = relative.shape[1]
            pull = _PULL * (np.eye(num) - 1 / num)
            wanted = np.append(rest[tell] / changed[tell], np.zeros(num))
            shares[asked] = nnls(np.vstack([relative, pull]), wanted)[0].clip(_LEAST, 1)
        return shares
