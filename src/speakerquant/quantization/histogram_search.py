"""Clipping ranges chosen from a histogram of magnitudes, under the objectives of NVIDIA pytorch-quantization.

The originals (``pytorch_quantization.calib.histogram``) walk over the bins of one candidate after another.
Here all candidates are scored exactly and at once, one of INT8's 128 magnitudes after another: what a
candidate needs to know about the bins of a magnitude is a difference of two prefix sums.

Every search takes ``counts [bins]``, at least 128 of them, and evenly spaced ``edges [bins + 1]`` that begin
at zero, leaves both unchanged and returns the amax. Counts are computed with in float64, so that they cannot
overflow as the original's int32 do.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

FloatArray = npt.NDArray[np.float64]

_LEVELS = 128  # magnitudes of INT8, zero included; also the original's first candidate


def percentile_range(counts: npt.ArrayLike, edges: npt.ArrayLike, percentile: float) -> float:
    """Lower edge of the bin that holds the percentile, as the original's; the last edge if that is zero."""
    counts, edges = np.asarray(counts, np.float64), np.asarray(edges, np.float64)
    index = np.searchsorted(np.cumsum(counts / counts.sum()), percentile / 100)
    return float(edges[index] if index > 0 else edges[-1])


def entropy_range(counts: npt.ArrayLike, edges: npt.ArrayLike) -> float:
    """The edge whose clipped and quantized histogram diverges least from the given; the widest of equals."""
    divergences = entropy_divergences(counts)
    widest = len(divergences) - 1 - int(np.argmin(divergences[::-1]))
    return float(np.asarray(edges, np.float64)[_LEVELS + widest])


def mse_range(counts: npt.ArrayLike, edges: npt.ArrayLike) -> float:
    """The bin centre that quantizes the histogram with the least squared error; the first of equals."""
    edges = np.asarray(edges, np.float64)
    index = _LEVELS + int(np.argmin(squared_errors(counts)))
    return float((edges[index] + edges[index + 1]) / 2)


def entropy_divergences(counts: npt.ArrayLike) -> FloatArray:
    """Kullback-Leibler divergence of every candidate: keeping the first 128, 129, ..., all bins.

    The reference is the kept histogram with all that lies beyond added to its last bin; the quantized
    histogram spreads each magnitude's mass evenly over its occupied bins. The bin at zero counts as much as
    its neighbour, so that inputs that follow a rectifier are not judged by their zeros. Infinite where the
    quantized histogram is empty and the reference is not.
    """
    counts = np.array(counts, np.float64)
    counts[0] = counts[1]
    cumulative, occupied = _prefix_sums(counts), _prefix_sums(counts > 0)
    kept_bins = np.arange(_LEVELS, len(counts) + 1)
    kept, last = cumulative[kept_bins], counts[kept_bins - 1]
    beyond = cumulative[-1] - kept

    # with p the reference, q the quantized counts and m the mean count of a magnitude's occupied bins,
    # sum p log q collapses to a sum over magnitudes of their mass times log m
    p_log_p = _prefix_sums(xlogy(counts, counts))[kept_bins - 1] + xlogy(last + beyond, last + beyond)
    p_log_q = np.zeros(len(kept_bins))
    lower = np.zeros(len(kept_bins), np.int64)
    for level in range(1, _LEVELS + 1):
        upper = -(-level * kept_bins // _LEVELS)
        mass = cumulative[upper] - cumulative[lower]
        mean = mass / np.maximum(occupied[upper] - occupied[lower], 1)
        p_log_q += xlogy(mass if level < _LEVELS else mass + beyond, mean)
        lower = upper
    with np.errstate(divide="ignore", invalid="ignore"):
        divergences = (p_log_p - p_log_q) / cumulative[-1] + np.log(kept / cumulative[-1])
    undefined = (kept == 0) | ((last == 0) & (beyond > 0))
    return np.where(undefined, np.inf, divergences)


def squared_errors(counts: npt.ArrayLike) -> FloatArray:
    """Mean over bins of counts times squared quantization error; amax is each bin's centre from bin 128 on.

    In squares of the bin width.
    """
    counts = np.asarray(counts, np.float64)
    centers = np.arange(len(counts)) + 0.5
    cumulative, moment = _prefix_sums(counts), _prefix_sums(counts * centers)
    step = centers[_LEVELS:] / (_LEVELS - 1)

    errors = np.full(len(step), np.sum(counts * centers**2))
    lower = np.zeros(len(step), np.int64)
    for level in range(_LEVELS):
        value = level * step
        # the first bin whose centre is nearer to the next value; the last value takes all that is clipped
        upper = np.ceil(value + step / 2 - 0.5).astype(np.int64)
        if level == _LEVELS - 1:
            upper[:] = len(counts)
        errors += value * (
            value * (cumulative[upper] - cumulative[lower]) - 2 * (moment[upper] - moment[lower])
        )
        lower = upper
    return errors / len(counts)


def _prefix_sums(values: npt.ArrayLike) -> FloatArray:
    """``[n + 1]``: entry i is the sum of the first i values."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
