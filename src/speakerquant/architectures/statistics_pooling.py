"""Statistics pooling: the mean and the standard deviation over time."""

import torch
from torch import Tensor

MIN_FRAMES = 2
"""Fewest frames that have an unbiased variance."""


def statistics_pooling(frames: Tensor, variance_floor: float) -> Tensor:
    """Return the means ``[B, C]`` and behind them the deviations, together ``[B, 2 * C]``.

    Args:
        frames: ``[B, C, T]``.
        variance_floor: What is added to the unbiased variance; as small a value as 1e-24
            keeps the square root differentiable, and no more.
    """
    deviations = (frames.var(dim=2) + variance_floor).sqrt()
    return torch.cat([frames.mean(dim=2), deviations], dim=1)
