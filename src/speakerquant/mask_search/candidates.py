"""Which masks a front is sought among: all or, where they are too many, those that lead to it."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from speakerquant.forecasting.additive_number import Ranks
from speakerquant.progress import track
from speakerquant.search.pareto import pareto_front

Array = npt.NDArray[np.float64]
Masks = npt.NDArray[np.int64]

ENUMERATED = 1_000_000
"""So many masks are listed; of more, a local search evaluates :data:`EVALUATED`."""

EVALUATED = 30_000
_EXPANDED = 16  # masks whose neighbours are evaluated together


def candidates(
    num_choices: Sequence[int], objectives: Callable[[Masks], Array], seeds: Iterable[Ranks]
) -> Masks:
    """Masks ``[num_masks, num_units]`` among which is the front.

    Args:
        num_choices: How many precisions each unit has.
        objectives: Sizes and losses of masks, ``[num_masks, 2]``.
        seeds: Masks to begin a local search with.
    """
    if math.prod(num_choices) <= ENUMERATED:
        return np.indices(num_choices).reshape(len(num_choices), -1).T.astype(np.int64)
    return _local_search(num_choices, objectives, seeds)


def _local_search(
    num_choices: Sequence[int], objectives: Callable[[Masks], Array], seeds: Iterable[Ranks]
) -> Masks:
    """Every neighbour of every mask on the front so far, until there is no new one or the budget is used.

    A neighbour differs in one unit (Paquete, Chiarandini and Stützle: "Pareto local optimum sets in the
    biobjective traveling salesman problem", 2004).
    """
    steps = np.array([(unit, rank) for unit, count in enumerate(num_choices) for rank in range(count)])
    masks = np.unique(np.array(list(seeds), np.int64), axis=0)
    points = objectives(masks)
    expanded: set[Ranks] = set()
    for _ in track(iter(int, 1), "masks", total=EVALUATED // (_EXPANDED * len(steps))):
        best = [mask for mask in masks[pareto_front(points)] if tuple(mask) not in expanded]
        if not best or len(masks) >= EVALUATED:
            return masks
        chosen = best[:: max(1, len(best) // _EXPANDED)][:_EXPANDED]
        expanded.update(map(tuple, chosen))
        around = np.repeat(np.array(chosen), len(steps), axis=0)
        places = np.tile(steps, (len(chosen), 1))
        around[np.arange(len(around)), places[:, 0]] = places[:, 1]
        known = {tuple(mask) for mask in masks}
        new = np.array([mask for mask in np.unique(around, axis=0) if tuple(mask) not in known], np.int64)
        if len(new):
            masks = np.vstack([masks, new])
            points = np.vstack([points, objectives(new)])
    return masks
