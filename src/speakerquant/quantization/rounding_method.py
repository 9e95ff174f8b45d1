"""The ways to round weights below eight bits; :mod:`.rounding` does it."""

from enum import Enum, auto


class RoundingMethod(Enum):
    """What decides the integer of a weight: it alone, its channel in one go (GPTQ), or in several."""

    nearest = auto()
    gptq = auto()
    descent = auto()
