"""How much a new point would enlarge what a front of sizes and losses dominates."""

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from speakerquant.search.pareto import pareto_front

Array = npt.NDArray[np.float64]


def front_heights(points: Array) -> Array:
    """For each point ``[n, 2]`` the lowest second coordinate of those whose first is no larger, ``[n]``."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    heights = np.empty(len(points))
    heights[order] = np.minimum.accumulate(points[order, 1])
    return heights


def hypervolume(points: Array, reference: Array) -> float:
    """The area that points ``[n, 2]`` dominate up to the reference ``[2]``.

    Source: Zitzler and Thiele: "Multiobjective optimization using evolutionary algorithms", PPSN 1998.
    """
    edges, heights = _staircase(points, reference)
    return float((np.diff(edges) * (reference[1] - heights[1:])).sum())


def expected_gain(points: Array, reference: Array, sizes: Array, means: Array, deviations: Array) -> Array:
    """By how much each new point is expected to enlarge the hypervolume, ``[num_new]``.

    The first coordinate of new points is known, their second is normally distributed (Emmerich, Deutz and
    Klinkenberg: "Hypervolume-based expected improvement", CEC 2011).

    Args:
        points: Those so far, ``[n, 2]``.
        reference: What bounds the area, ``[2]``.
        sizes: First coordinate of the new points, ``[num_new]``.
        means: Mean of their second coordinate.
        deviations: Standard deviation of it, above zero.
    """
    edges, heights = _staircase(points, reference)
    starts = np.concatenate([[-np.inf], edges[:-1]])
    widths = np.clip(edges - np.maximum(starts, sizes[:, None]), 0, None)
    deviations = deviations[:, None]
    z = (heights - means[:, None]) / deviations
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    lowered = deviations * (z * ndtr(z) + density)
    gains: Array = (widths * lowered).sum(axis=1)
    return gains


def _staircase(points: Array, reference: Array) -> tuple[Array, Array]:
    """The lower edge of what is dominated: where each step ends, and how high it is."""
    inside = points[(points < reference).all(axis=1)]
    front = inside[pareto_front(inside)] if len(inside) else inside
    front = front[np.argsort(front[:, 0])]
    return np.append(front[:, 0], reference[0]), np.append(reference[1], front[:, 1])
