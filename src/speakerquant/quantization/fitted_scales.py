"""Scales of least squared error: what the integer 1 of a group of weights stands for, fitted to the group."""

import torch
from torch import Tensor

Bounds = tuple[int, int]
"""The smallest integer and the largest."""

_CANDIDATES = 40  # scales tried for a group, from _LEAST of the one without clipping up to that
_LEAST = 0.3
_CHUNK = 65536  # weights by scales that are tried at once: they stay in the processor's cache


def fitted_scales(groups: Tensor, bounds: Bounds, importance: Tensor | None = None) -> Tensor:
    """Scale of least squared error for each group ``[..., length]``, ``[..., 1]``.

    It may be negative where integers reach further on one side of zero: the sign chooses the side.

    Args:
        groups: Weights.
        bounds: Of the integers.
        importance: What a squared error counts for, of a shape that broadcasts to that of the groups; none
            counts all alike.
    """
    rows = groups.reshape(-1, groups.shape[-1])
    together = max(1, _CHUNK // rows.shape[1])
    parts = torch.split(rows, together)
    if importance is None:
        chosen = [_scales_of_rows(part, bounds, None) for part in parts]
    else:
        counts = torch.split(importance.expand(groups.shape).reshape(rows.shape), together)
        chosen = [_scales_of_rows(part, bounds, count) for part, count in zip(parts, counts, strict=True)]
    return torch.cat(chosen).reshape(*groups.shape[:-1], 1)


def _scales_of_rows(rows: Tensor, bounds: Bounds, importance: Tensor | None) -> Tensor:
    widest = rows.abs().amax(-1, keepdim=True).clamp(min=1e-12) / bounds[1]
    shares = torch.linspace(_LEAST, 1, _CANDIDATES)
    candidates = torch.stack([shares, -shares], 1).reshape(-1, 1, 1) * widest
    at_once = max(1, _CHUNK // rows.numel())
    buffer = rows.new_empty(at_once, *rows.shape)
    losses = []
    for scales in torch.split(candidates, at_once):
        squares = torch.div(rows, scales, out=buffer[: len(scales)]).round_().clamp_(*bounds)
        squares.mul_(scales).sub_(rows).square_()
        if importance is not None:
            squares.mul_(importance)
        losses.append(squares.sum(-1, keepdim=True))
    return candidates.gather(0, torch.cat(losses).argmin(0, keepdim=True))[0]
