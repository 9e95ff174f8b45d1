"""What no other beats in size without losing in error, or the other way round."""

import numpy as np
import numpy.typing as npt


def pareto_front(points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which of the points ``[n, 2]`` no other beats in one coordinate without losing in the other, ``[n]``.

    Less is better, and NaN worse than any number. Of equal points the first stands for all.

    >>> pareto_front(np.array([[28.0, 1.20], [7.2, 1.19], [4.1, 1.21], [4.3, 1.30]])).tolist()
    [False, True, True, False]
    """
    points = np.asarray(points, np.float64)
    points = np.where(np.isnan(points), np.inf, points)
    order = np.lexsort((points[:, 1], points[:, 0]))
    lowest = np.minimum.accumulate(points[order, 1])
    best = np.empty(len(points), np.bool_)
    best[order] = np.concatenate([[True], points[order[1:], 1] < lowest[:-1]])
    return best
