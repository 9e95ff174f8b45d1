"""The precisions that a layer can run in: one description each, looked up by name."""

from dataclasses import dataclass
from enum import StrEnum

from speakerquant.errors import UserError


class Grouping(StrEnum):
    """Which weights of a layer share a scale."""

    output_channel = "output channel"
    input_group = "group of input channels"


class FloatType(StrEnum):
    """Floating-point type that a layer computes in, where it does not compute in integers."""

    float32 = "float32"
    float16 = "float16"

    @property
    def bits(self) -> int:
        """Width of one value."""
        return {FloatType.float32: 32, FloatType.float16: 16}[self]


@dataclass(frozen=True)
class WeightFormat:
    """How a layer's weights are stored as integers, symmetrically around zero.

    Attributes:
        bits: Width of one weight, sign included: from 2 to 8.
        grouping: Which weights share a scale.
    """

    bits: int
    grouping: Grouping = Grouping.output_channel

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"weights of {self.bits} bits cannot be stored; use 2 to 8")


@dataclass(frozen=True)
class Precision:
    """What a layer computes with.

    Attributes:
        name: As configurations, MLflow and reports call it.
        weights: Format of integer weights; none keeps them in floating point.
        input_bits: Width of the integers that the layer's input is rounded to, 8; none does not round it.
        arithmetic: Floating-point type of weights and inputs that are not integers.

    Raises:
        ValueError: the description is of nothing that can be simulated and exported.
    """

    name: str
    weights: WeightFormat | None = None
    input_bits: int | None = None
    arithmetic: FloatType = FloatType.float32

    def __post_init__(self) -> None:
        if self.input_bits not in (None, 8):
            raise ValueError(f"precision {self.name}: inputs are rounded to 8 bits or not at all")
        if self.arithmetic is not FloatType.float32 and (self.weights or self.input_bits):
            raise ValueError(f"precision {self.name}: integers are computed beside float32 only")

    @property
    def has_grouped_weights(self) -> bool:
        """Whether groups of input channels share the scales of its integer weights."""
        return self.weights is not None and self.weights.grouping is Grouping.input_group

    @property
    def bits_per_weight(self) -> int:
        """Width of one stored weight, scales left aside."""
        return self.weights.bits if self.weights else self.arithmetic.bits

    def __str__(self) -> str:
        return self.name


_BY_NAME: dict[str, Precision] = {}


def register(precision: Precision) -> Precision:
    """Make a precision known by its name, everywhere: masks, simulation, export, tables, search.

    Raises:
        ValueError: another precision has the name.
    """
    if _BY_NAME.setdefault(precision.name, precision) != precision:
        raise ValueError(f"the precision {precision.name} is registered with another description")
    return precision


def registered() -> tuple[Precision, ...]:
    """Every known precision, in the order of registration."""
    return tuple(_BY_NAME.values())


def precision_of(name: str) -> Precision:
    """The precision of that name.

    Raises:
        UserError: there is none, with the names of those there are.
    """
    if name not in _BY_NAME:
        raise UserError(f"unknown precision {name!r}; valid are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


FP32 = register(Precision("fp32"))
FP16 = register(Precision("fp16", arithmetic=FloatType.float16))
INT8 = register(Precision("int8", WeightFormat(8), input_bits=8))
INT4 = register(Precision("int4", WeightFormat(4, Grouping.input_group)))
INT2 = register(Precision("int2", WeightFormat(2, Grouping.input_group)))

BASELINE = FP32
"""What every mask is compared with, and what a mask leaves untouched."""
