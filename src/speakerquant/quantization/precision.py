"""The precisions that a unit of the network can run in."""

from enum import StrEnum


class Precision(StrEnum):
    """Arithmetic of a unit's convolutions and linear layers."""

    FP32 = "fp32"
    INT8 = "int8"
