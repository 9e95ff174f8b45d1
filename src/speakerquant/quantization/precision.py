"""The precisions that a layer can run in: one description each, looked up by name."""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from speakerquant.errors import UserError

SMALLEST_GROUP = 16
"""Fewest input channels that share a scale, where not all do: fewer would take as much as the weights."""


INPUT_GROUP = 64
"""Input channels of a frame that share a range, where ranges are found in each frame."""

_NARROW = 4  # most bits of integers that are no INT8 in engines


class FloatType(StrEnum):
    """Floating-point type that a layer computes in, where it does not compute in integers."""

    float32 = "float32"
    float16 = "float16"

    @property
    def bits(self) -> int:
        """Width of one value."""
        return {FloatType.float32: 32, FloatType.float16: 16}[self]


class InputRange(StrEnum):
    """Where the range is from that a layer's input is rounded by."""

    calibrated = "calibrated"
    """Measured before, one for each layer; symmetric."""

    recording = "recording"
    """Found at run time, from the smallest to the largest value of a recording, 0 among them."""

    frame = "frame"
    """Found at run time in each frame, for every :data:`INPUT_GROUP` channels; symmetric."""


@dataclass(frozen=True)
class WeightFormat:
    """How a layer's weights are stored as integers, symmetrically around zero.

    Attributes:
        bits: Width of one weight, sign included: from 2 to 8.
        group_size: Most input channels that share a scale, a power of two from 16 on; each tap of a
            convolution has scales of its own. None: an output channel has one scale.
        is_fitted: Whether integers and scales are fitted to the weights, and to what the layer sees
            (:mod:`.rounding`). Else each output channel's scale follows from the range of its weights.
    """

    bits: int
    group_size: int | None = None
    is_fitted: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"weights of {self.bits} bits cannot be stored; use 2 to 8")
        size = self.group_size
        if size is not None and (size < SMALLEST_GROUP or size.bit_count() != 1):
            raise ValueError(f"groups of {size}: give a power of two from {SMALLEST_GROUP} on")

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest integer.

        Narrow ones, for which that is much, reach one step further below zero than above; others do not, as
        arithmetic in integers wants it.
        """
        largest = 2 ** (self.bits - 1) - 1
        return (-largest - 1 if self.bits <= _NARROW else -largest), largest


@dataclass(frozen=True)
class Precision:
    """What a layer computes with.

    Attributes:
        name: As configurations, MLflow and reports call it.
        weights: Format of integer weights; none keeps them in floating point.
        input_bits: Width of the integers that the layer's input is rounded to, 8; none does not round it.
        input_range: Where the range is from that the input is rounded by.
        arithmetic: Floating-point type of weights and inputs that are not integers.

    Raises:
        ValueError: the description is of nothing that can be simulated and exported.
    """

    name: str
    weights: WeightFormat | None = None
    input_bits: int | None = None
    input_range: InputRange = InputRange.calibrated
    arithmetic: FloatType = FloatType.float32

    def __post_init__(self) -> None:
        if self.input_bits not in (None, 8):
            raise ValueError(f"precision {self.name}: inputs are rounded to 8 bits or not at all")
        if self.input_range is not InputRange.calibrated and self.input_bits is None:
            raise ValueError(f"precision {self.name}: ranges are found for inputs that are rounded")
        if self.input_range is InputRange.frame and (self.group_size or 0) < INPUT_GROUP:
            raise ValueError(
                f"precision {self.name}: inputs are rounded {INPUT_GROUP} channels by {INPUT_GROUP}, and "
                "weights share scales in groups of as many or more"
            )
        if self.arithmetic is not FloatType.float32 and (self.weights or self.input_bits):
            raise ValueError(f"precision {self.name}: integers are computed beside float32 only")
        if self.weights and self.weights.group_size and not self.weights.is_fitted:
            raise ValueError(f"precision {self.name}: scales of groups do not follow from ranges")

    @property
    def group_size(self) -> int | None:
        """Most input channels of which weights share a scale, if they do so in groups."""
        return self.weights.group_size if self.weights else None

    @property
    def quantizes_input(self) -> bool:
        """Whether the input becomes integers before the layer; in each frame, it is the layer that rounds."""
        return self.input_bits is not None and self.input_range is not InputRange.frame

    @property
    def has_integer_weights_only(self) -> bool:
        """Whether its weights are integers and its input is not, before the layer."""
        return self.weights is not None and not self.quantizes_input

    @property
    def has_fitted_scales(self) -> bool:
        """Whether the scales of its integers are fitted to the weights."""
        return self.weights is not None and self.weights.is_fitted

    def within(self, most_bits: int) -> "Precision":
        """This precision where sums of products of integers are exact up to so many bits of a weight."""
        if self.weights is None or self.input_bits is None or self.weights.bits <= most_bits:
            return self
        return replace(self, weights=replace(self.weights, bits=most_bits))

    @property
    def bits_per_weight(self) -> int:
        """Width of one stored weight, scales left aside."""
        return self.weights.bits if self.weights else self.arithmetic.bits

    def __str__(self) -> str:
        return self.name


_BY_NAME: dict[str, Precision] = {}
_CHANNEL = "channel"
_GROUP = re.compile("g[1-9][0-9]*")  # of so many input channels, behind the name of a precision


def register(precision: Precision) -> Precision:
    """Make a precision known by its name, everywhere: masks, simulation, export, tables, search.

    Raises:
        ValueError: another precision has the name.
    """
    if _BY_NAME.setdefault(precision.name, precision) != precision:
        raise ValueError(f"the precision {precision.name} is registered with another description")
    return precision


def registered() -> tuple[Precision, ...]:
    """Every registered precision, in the order of registration; :func:`precision_of` knows further ones."""
    return tuple(_BY_NAME.values())


def precision_of(name: str) -> Precision:
    """The precision of that name.

    A name of one with grouped weights may be followed by other groups: ``int4_g128`` has groups of 128 input
    channels, ``int4_channel`` one scale for each output channel.

        >>> precision_of("int4").weights.group_size
        64
        >>> precision_of("int2_g128").weights.group_size
        128
        >>> precision_of("fp16").bits_per_weight
        16

    Raises:
        UserError: there is none, with the names of those there are.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    base, _, grouping = name.rpartition("_")
    if base not in _BY_NAME or not (grouping == _CHANNEL or _GROUP.fullmatch(grouping)):
        raise UserError(
            f"unknown precision {name!r}; valid are {', '.join(_BY_NAME)}, and those with grouped weights in "
            f"other groups, such as {INT4}_g128 or {INT4}_{_CHANNEL}"
        )
    return _regrouped(name, _BY_NAME[base], None if grouping == _CHANNEL else int(grouping[1:]))


def _regrouped(name: str, base: Precision, group_size: int | None) -> Precision:
    if base.weights is None or base.group_size is None:
        raise UserError(f"unknown precision {name!r}; the weights of {base} are not in groups")
    if group_size == base.group_size:
        return base
    try:
        return replace(base, name=name, weights=replace(base.weights, group_size=group_size))
    except ValueError as error:
        raise UserError(f"precision {name!r}: {error}") from None


FP32 = register(Precision("fp32"))
FP16 = register(Precision("fp16", arithmetic=FloatType.float16))
INT8 = register(Precision("int8", WeightFormat(8, is_fitted=False), input_bits=8))
INT8_FITTED = register(Precision("int8_fitted", WeightFormat(8), input_bits=8))
INT8_DYNAMIC = register(
    Precision(
        "int8_dynamic", WeightFormat(8, is_fitted=False), input_bits=8, input_range=InputRange.recording
    )
)
INT4 = register(Precision("int4", WeightFormat(4, group_size=64)))
INT4_DYNAMIC = register(
    Precision("int4_dynamic", WeightFormat(4, group_size=64), input_bits=8, input_range=InputRange.frame)
)
INT2 = register(Precision("int2", WeightFormat(2, group_size=64)))

BASELINE = FP32
"""What every mask is compared with, and what a mask leaves untouched."""
