"""Which masks a front is sought among: all or, where they are too many, those that lead to it."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from speakerquant.forecasting.additive_number import Ranks
from speakerquant.progress import track
from speakerquant.search.pareto import pareto_front

Array = npt.NDArray[np.float64]
Masks = npt.NDArray[np.int64]

EVALUATED = 30_000
"""So many masks are listed; of more, a local search evaluates as many."""

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
    if math.prod(num_choices) <= EVALUATED:
        return np.indices(num_choices).reshape(len(num_choices), -1).T.astype(np.int64)
    found = track(_local_search(num_choices, objectives, seeds), "masks", total=EVALUATED)
    return np.array(list(found), np.int64)


def _local_search(
    num_choices: Sequence[int], objectives: Callable[[Masks], Array], seeds: Iterable[Ranks]
) -> Iterator[list[int]]:
    """Every neighbour of every mask on the front so far, until the budget is used.

    A neighbour differs in one unit (Paquete, Chiarandini and Stützle: "Pareto local optimum sets in the
    biobjective traveling salesman problem", 2004). Where there is no new one, as on a list whose EERs have
    few steps, the front of all masks whose neighbours are not known follows.
    """
    steps = np.array([(unit, rank) for unit, count in enumerate(num_choices) for rank in range(count)])
    masks = np.unique(np.array(list(seeds), np.int64), axis=0)
    points = objectives(masks)
    yield from masks.tolist()
    known = set(map(tuple, masks.tolist()))
    is_expanded = np.zeros(len(masks), np.bool_)
    while len(left := np.flatnonzero(~is_expanded)) and len(masks) < EVALUATED:
        best = np.flatnonzero(pareto_front(points) & ~is_expanded)
        if not len(best):  # of masks that are alike only one is on a front: the smallest as well
            smallest = left[np.argsort(points[left, 0])[:_EXPANDED]]
            best = np.union1d(left[pareto_front(points[left])], smallest)
        chosen = best[:: max(1, len(best) // _EXPANDED)][:_EXPANDED]
        is_expanded[chosen] = True
        around = np.repeat(masks[chosen], len(steps), axis=0)
        places = np.tile(steps, (len(chosen), 1))
        around[np.arange(len(around)), places[:, 0]] = places[:, 1]
        new = [mask for mask in np.unique(around, axis=0).tolist() if tuple(mask) not in known]
        if new:
            known.update(map(tuple, new))
            masks = np.vstack([masks, new])
            points = np.vstack([points, objectives(np.array(new))])
            is_expanded = np.append(is_expanded, np.zeros(len(new), np.bool_))
            yield from new
