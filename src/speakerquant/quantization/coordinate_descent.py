"""Coordinate descent on what a layer's rounded weights lose, over integers and scales in turn.

GPTQ looks at every column once and never comes back. Given its integers, each column in turn takes the
integers that are best while all others stay, and each group the scale that is best for its integers, until
nothing moves; the error of the layer's outputs falls at every step (for integers alone: Behdin et al.,
"QuantEase", 2023).
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from speakerquant.quantization.fitted_scales import Bounds

Array = npt.NDArray[np.float32]

_BLOCK = 128  # columns whose changes are passed on together
_TINY = np.finfo(np.float32).tiny


def descended(
    weights: Tensor, hessians: Tensor, codes: Tensor, scales: Tensor, bounds: Bounds, most_sweeps: int
) -> tuple[Tensor, Tensor]:
    """Integers and scales that lose less of a layer's outputs than the given ones, or as much.

    Matrices of one shape are gone through side by side: of small ones each step takes as long as that of one.

    Args:
        weights: ``[matrices, out, columns]``.
        hessians: Sums of products of the columns' inputs, damped, ``[matrices, columns, columns]``.
        codes: Integers to begin from, ``[matrices, out, columns]``.
        scales: Their scales, ``[matrices, out, groups]``, none of them zero; signs are kept.
        bounds: Of the integers.
        most_sweeps: How often all columns are gone through at most.
    """
    hessians = hessians.float()
    # What all output channels of a column take lies together; steps of NumPy start sooner than PyTorch's.
    weights, codes, scales = (
        each.mT.clone(memory_format=torch.contiguous_format) for each in (weights, codes, scales)
    )
    size, length = codes.shape[1], codes.shape[1] // scales.shape[1]
    block = max(_BLOCK // length, 1) * length
    values, scale = codes * scales.repeat_interleave(length, 1), scales.numpy()
    for _ in range(most_sweeps):
        slopes, former = hessians @ (values - weights), codes.clone()
        for start in range(0, size, block):
            stop = min(start + block, size)
            inner = hessians[:, start:stop, start:stop].numpy()
            slope, value, code = (each[:, start:stop].numpy() for each in (slopes, values, codes))
            before = value.copy()
            for first in range(0, stop - start, length):
                group, place = slice(first, first + length), (start + first) // length
                # What the groups before it in the block have changed.
                slope[:, group] += inner[:, group, :first] @ (value[:, :first] - before[:, :first])
                at_group = code[:, group], value[:, group], slope[:, group], scale[:, place]
                scale[:, place] = _descend_in_group(*at_group, inner[:, group, group], bounds)
            change = values[:, start:stop] - torch.from_numpy(before)
            slopes[:, stop:].baddbmm_(hessians[:, stop:, start:stop], change)
        if torch.equal(codes, former):
            break
    return codes.mT.contiguous(), scales.mT.contiguous()


def _descend_in_group(
    codes: Array, values: Array, slope: Array, scale: Array, hessian: Array, bounds: Bounds
) -> Array:
    """Change a group's integers and values in place, and return its scale ``[matrices, out]``.

    Args:
        codes: Its integers, ``[matrices, columns, out]``.
        values: What they stand for.
        slope: Of the error, at these values.
        scale: Of the group.
        hessian: ``[matrices, columns, columns]``.
        bounds: Of the integers.
    """
    products = hessian @ codes
    best_scale = _best_scale(codes, slope, products, scale)
    change = (best_scale - scale)[:, None]
    values += codes * change
    slope += products * change
    curvature = hessian.diagonal(0, 1, 2).clip(min=_TINY)[..., None]
    changes = np.empty_like(values)
    for column in range(values.shape[1]):
        inside = hessian[:, column, None, :column] @ changes[:, :column]
        best = values[:, column] - (slope[:, column] + inside[:, 0]) / curvature[:, column]
        best = (best / best_scale).round().clip(*bounds)
        codes[:, column] = best
        best *= best_scale
        np.subtract(best, values[:, column], out=changes[:, column])
        values[:, column] = best
    return best_scale


def _best_scale(codes: Array, slope: Array, products: Array, scale: Array) -> Array:
    """The scale ``[matrices, out]`` of least error for a group's integers; its sign stays.

    Args:
        codes: The integers, ``[matrices, columns, out]``.
        slope: Of the error, at what they stand for now.
        products: Of the Hessian with the integers.
        scale: Of the group.
    """
    curvature = (products * codes).sum(1)
    best = scale - (slope * codes).sum(1) / curvature.clip(min=_TINY)
    return np.where((curvature > 0) & (best * scale > 0), best, scale)
