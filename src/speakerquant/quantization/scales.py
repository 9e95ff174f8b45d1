"""Scales that follow from ranges: what the integer 1 of a layer's input and of its weights stands for."""

import numpy as np
import numpy.typing as npt

from speakerquant.errors import UserError
from speakerquant.quantization.ranges import CalibrationTable

MAX_WEIGHT_BITS = 8
"""Bits of integer weights that every device has room for; some compute exactly with fewer only."""

_EIGHT_BITS = 127  # largest magnitude of a symmetric eight-bit integer


def weight_scales(
    name: str, layer_weight: npt.NDArray[np.float32], table: CalibrationTable, bound: int
) -> npt.NDArray[np.float32]:
    """What the integer 1 of each output channel's weights stands for, ``[out_channels]``.

    Raises:
        UserError: the table has no range that fits the layer.
    """
    ranges = table.weight_ranges.get(name)
    if ranges is None or ranges.shape != layer_weight.shape[:1]:
        raise UserError(f"calibration table: no ranges that fit {name}; calibrate this model")
    # The range of an eight-bit weight, widened until its largest value becomes just ``bound``.
    widened: npt.NDArray[np.float32] = ranges * np.float32(_EIGHT_BITS / bound)
    return widened / np.float32(_EIGHT_BITS)


def input_scale(name: str, input_bits: int, table: CalibrationTable) -> np.float32:
    """What the integer 1 of a layer's input stands for.

    Raises:
        UserError: the table has no range for the layer.
    """
    if name not in table.input_ranges:
        raise UserError(f"calibration table: no ranges that fit {name}; calibrate this model")
    return np.float32(table.input_ranges[name]) / np.float32(2 ** (input_bits - 1) - 1)
