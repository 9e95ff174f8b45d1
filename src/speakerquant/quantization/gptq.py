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
    passed = torch.linalg.cholesky(inverse).float()  # row by row, what a column hears from those before it
    importance = passed.diagonal(dim1=1, dim2=2)[:, None] ** -2
    # What all output channels of a column take lies together; steps of NumPy start sooner than PyTorch's.
    left = weights.mT.clone(memory_format=torch.contiguous_format)
    codes, scales = torch.zeros_like(left), []
    values, integers, shares = left.numpy(), codes.numpy(), passed.numpy()
    for start in range(0, left.shape[1], _BLOCK):
        stop = min(start + _BLOCK, left.shape[1])
        errors = np.zeros_like(values[:, start:stop])
        first = start  # errors of the block's columns before it have reached the values
        for column in range(start, stop):
            if column % length == 0:
                near = slice(column, min(column + length, stop))
                values[:, near] -= shares[:, near, start:column] @ errors[:, : column - start]
                first, pending = column, slice(column, column + length)
                scales.append(fitted_scales(left[:, pending].mT, bounds, importance[..., pending]))
                scale = scales[-1][..., 0].numpy()
            heard = slice(first - start, column - start)
            told = shares[:, column, None, first:column] @ errors[:, heard]
            value = values[:, column] - told[:, 0]
            code = (value / scale).round().clip(*bounds)
            integers[:, column] = code
            errors[:, column - start] = (value - code * scale) / shares[:, column, column, None]
        left[:, stop:].baddbmm_(passed[:, stop:, start:stop], torch.from_numpy(errors), alpha=-1)
    return codes.mT.contiguous(), torch.cat(scales, dim=2)
