"""Integers by GPTQ: columns in turn, where the later ones make up for what a column loses.

Frantar et al.: "GPTQ: Accurate post-training quantization for generative pre-trained transformers", ICLR
2023.
"""

import numpy as np
import torch
from torch import Tensor

from speakerquant.quantization.fitted_scales import Bounds, fitted_scales

_BLOCK = 128  # columns whose errors are passed on together


def rounded_in_turn(weights: Tensor, hessians: Tensor, bounds: Bounds, length: int) -> tuple[Tensor, Tensor]:
    """Integers and scales of matrices that are rounded side by side.

    The scale of a group is chosen when it is reached, of least error where each weight counts for what later
    columns cannot make up for.

    Args:
        weights: ``[matrices, out, columns]``.
        hessians: Sums of products of the columns' inputs, damped, ``[matrices, columns, columns]``.
        bounds: Of the integers.
        length: Columns that share a scale.

    Returns:
        ``[matrices, out, columns]`` and ``[matrices, out, columns / length]``.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessians))
    factors = torch.linalg.cholesky(inverse).float()
    importance = factors.diagonal(dim1=1, dim2=2)[:, None] ** -2
    # What all output channels of a column take lies together; steps of NumPy start sooner than PyTorch's.
    left = weights.mT.clone(memory_format=torch.contiguous_format)
    codes, scales = torch.zeros_like(left), []
    values, integers, factor = left.numpy(), codes.numpy(), factors.numpy()
    for start in range(0, left.shape[1], _BLOCK):
        stop = min(start + _BLOCK, left.shape[1])
        errors = np.zeros_like(values[:, start:stop])
        first = start  # the values know the errors of the block's columns before it
        for column in range(start, stop):
            if column % length == 0:
                near = slice(column, min(column + length, stop))
                values[:, near] -= factor[:, near, start:column] @ errors[:, : column - start]
                first, pending = column, slice(column, column + length)
                scales.append(fitted_scales(left[:, pending].mT, bounds, importance[..., pending]))
                scale = scales[-1][..., 0].numpy()
            since = slice(first - start, column - start)
            correction = factor[:, column, None, first:column] @ errors[:, since]
            value = values[:, column] - correction[:, 0]
            code = (value / scale).round().clip(*bounds)
            integers[:, column] = code
            errors[:, column - start] = (value - code * scale) / factor[:, column, column, None]
        left[:, stop:].baddbmm_(factors[:, stop:, start:stop], torch.from_numpy(errors), alpha=-1)
    return codes.mT.contiguous(), torch.cat(scales, dim=2)
