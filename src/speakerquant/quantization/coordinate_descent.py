"""Coordinate descent on what a layer's rounded weights lose, over integers and scales in turn.

GPTQ looks at every column once and never comes back. Given its integers, each column in turn takes the
integers that are best while all others stay, and each group the scale that is best for its integers, until
nothing moves; the error of the layer's outputs falls at every step (for integers alone: Behdin et al.,
"QuantEase", 2023).
"""

from collections.abc import Callable

import torch
from torch import Tensor

_BLOCK = 128  # columns whose changes are passed on together


def descended(
    weight: Tensor,
    hessian: Tensor,
    codes: Tensor,
    scales: Tensor,
    rounded: Callable[[Tensor], Tensor],
    most_sweeps: int,
) -> tuple[Tensor, Tensor]:
    """Integers and scales that lose less of a layer's outputs than the given ones, or as much.

    Args:
        weight: ``[out, columns]``.
        hessian: Sums of products of the columns' inputs, damped, ``[columns, columns]``.
        codes: Integers to begin from, ``[out, columns]``.
        scales: Their scales, ``[out, groups]``, none of them zero; signs are kept.
        rounded: Function from numbers to the nearest integers that there are.
        most_sweeps: How often all columns are gone through at most.
    """
    hessian, codes, scales = hessian.float(), codes.clone(), scales.clone()
    length = codes.shape[1] // scales.shape[1]
    block = max(_BLOCK // length, 1) * length
    curvature = hessian.diagonal().clamp(min=torch.finfo(torch.float32).tiny)
    values = codes * scales.repeat_interleave(length, 1)
    for _ in range(most_sweeps):
        slopes = (values - weight) @ hessian
        moved = 0
        for start in range(0, weight.shape[1], block):
            columns = slice(start, min(start + block, weight.shape[1]))
            inner, slope, before = hessian[columns, columns], slopes[:, columns], values[:, columns].clone()
            for first in range(0, slope.shape[1], length):
                group, place = slice(first, first + length), (start + first) // length
                steps = codes[:, columns][:, group]
                scale = _best_scale(steps, slope[:, group], inner[group, group], scales[:, place])
                change = steps * (scale - scales[:, place])[:, None]
                scales[:, place] = scale
                values[:, columns][:, group] += change
                slope += change @ inner[group]
                for column in range(first, first + length):
                    now = values[:, start + column]
                    best = rounded((now - slope[:, column] / curvature[start + column]) / scale)
                    moved += int((best != codes[:, start + column]).sum())
                    change = best * scale - now
                    codes[:, start + column] = best
                    values[:, start + column] += change
                    slope[:, column:] += change[:, None] * inner[column, column:]
            slopes[:, columns.stop :] += (values[:, columns] - before) @ hessian[columns, columns.stop :]
        if not moved:
            break
    return codes, scales


def _best_scale(codes: Tensor, slope: Tensor, hessian: Tensor, scale: Tensor) -> Tensor:
    """The scale ``[out]`` of least error for a group's integers; as it was where that has another sign."""
    curvature = ((codes @ hessian) * codes).sum(1)
    best = scale - (slope * codes).sum(1) / curvature.clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where((curvature > 0) & (best * scale > 0), best, scale)
