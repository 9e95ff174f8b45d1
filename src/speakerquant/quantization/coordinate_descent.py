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
    hessian = hessian.float()
    # What a column does to all output channels lies together in memory.
    weight, codes, scales = (
        each.T.clone(memory_format=torch.contiguous_format) for each in (weight, codes, scales)
    )
    length = len(codes) // len(scales)
    block = max(_BLOCK // length, 1) * length
    curvature = hessian.diagonal().clamp(min=torch.finfo(torch.float32).tiny)
    values = codes * scales.repeat_interleave(length, 0)
    for _ in range(most_sweeps):
        slopes, former = hessian @ (values - weight), codes.clone()
        for start in range(0, len(weight), block):
            stop = min(start + block, len(weight))
            inner, slope = hessian[start:stop, start:stop], slopes[start:stop]
            before = values[start:stop].clone()
            for first in range(start, stop, length):
                group, inside = slice(first, first + length), slice(first - start, first - start + length)
                place = first // length
                scale = _best_scale(codes[group], slope[inside], inner[inside, inside], scales[place])
                change = codes[group] * (scale - scales[place])
                scales[place] = scale
                values[group] += change
                slope.addmm_(inner[:, inside], change)
                for column in range(first, first + length):
                    row = column - start
                    best = rounded((values[column] - slope[row] / curvature[column]) / scale)
                    change = best * scale - values[column]
                    codes[column] = best
                    values[column] += change
                    slope[row:].addr_(inner[row, row:], change)
            slopes[stop:].addmm_(hessian[stop:, start:stop], values[start:stop] - before)
        if torch.equal(codes, former):
            break
    return codes.T.contiguous(), scales.T.contiguous()


def _best_scale(codes: Tensor, slope: Tensor, hessian: Tensor, scale: Tensor) -> Tensor:
    """The scale ``[out]`` of least error for a group's integers ``[columns, out]``; its sign stays."""
    curvature = ((hessian @ codes) * codes).sum(0)
    best = scale - (slope * codes).sum(0) / curvature.clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where((curvature > 0) & (best * scale > 0), best, scale)
