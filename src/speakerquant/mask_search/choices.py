"""What a search can choose: the precisions of every unit, the highest first."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.distributions import BaseDistribution, CategoricalDistribution

from speakerquant.errors import UserError
from speakerquant.forecasting.additive_number import Ranks
from speakerquant.quantization.precision import SMALLEST_GROUP, Precision, precision_of
from speakerquant.search.space import Point, Space

if TYPE_CHECKING:
    from speakerquant.architectures.layers import LayerGeometry

MASK_AXIS = re.compile(r"mask\.([\w.]+)")
"""An axis whose choices are precisions of the unit that the group names."""


@dataclass(frozen=True)
class Choices:
    """The axes of a space that choose the precision of a unit.

    Attributes:
        space: Its axes ``mask.<unit>`` between two precisions or more are the units.
        defaults: A value for every other axis.
    """

    space: Space
    defaults: Point

    @property
    def precisions(self) -> dict[str, tuple[Precision, ...]]:
        """By axis the precisions to choose from, ordered by what a weight takes, the most first."""
        return {
            name: choices for name, axis in self.space.axes.items() if (choices := _precisions(name, axis))
        }

    def point(self, lowered: Mapping[str, Precision]) -> Point:
        """The point with these precisions by axis, and every other unit in its highest."""
        chosen = {
            axis: self._written(axis, lowered.get(axis, choices[0]))
            for axis, choices in self.precisions.items()
        }
        point = {**self.defaults, **chosen}
        return {name: point[name] for name in self.space.axes}

    def point_of(self, ranks: Sequence[int]) -> Point:
        """The point of ranks."""
        return self.point(
            {
                axis: choices[rank]
                for (axis, choices), rank in zip(self.precisions.items(), ranks, strict=True)
            }
        )

    def ranks_of(self, point: Point) -> Ranks:
        """The ranks of a point."""
        return tuple(
            choices.index(precision_of(str(point[axis]))) for axis, choices in self.precisions.items()
        )

    def _written(self, axis: str, precision: Precision) -> str:
        """A precision as the axis has it, which may write it in another way."""
        choices = map(str, getattr(self.space.axes[axis], "choices", ()))
        return next(choice for choice in choices if precision_of(choice) == precision)

    def alone(self) -> list[Point]:
        """The points with one unit in one of its lower precisions."""
        return [self.point({axis: lower}) for axis, (_, *rest) in self.precisions.items() for lower in rest]

    def uniform(self) -> list[Point]:
        """For every lower precision, the point with as many units in it as can be, the others lowest."""
        lower = dict.fromkeys(precision for _, *rest in self.precisions.values() for precision in rest)
        return [
            self.point(
                {
                    axis: precision if precision in choices else choices[-1]
                    for axis, choices in self.precisions.items()
                }
            )
            for precision in _highest_first(lower)
        ]


def stored_differently(precisions: Iterable[Precision], layers: Sequence["LayerGeometry"]) -> list[Precision]:
    """The precisions without those that store the weights of these layers as an earlier one does.

    A layer's channels may not divide into groups as large as a precision has.
    """
    found: dict[object, Precision] = {}
    for precision in precisions:
        lengths = [layer.group_length(precision.group_size, SMALLEST_GROUP) for layer in layers]
        stored = precision.weights and (precision.weights.bits, precision.weights.is_fitted)
        computed = (precision.input_bits, precision.input_range, precision.arithmetic)
        found.setdefault((stored, *computed, *lengths), precision)
    return list(found.values())


def _precisions(name: str, axis: BaseDistribution) -> tuple[Precision, ...]:
    """The precisions that a unit can choose; empty if the axis is not such a unit."""
    if not MASK_AXIS.fullmatch(name) or not isinstance(axis, CategoricalDistribution):
        return ()
    try:
        precisions = [precision_of(str(choice)) for choice in axis.choices]
    except UserError:
        return ()
    return _highest_first(precisions) if len(precisions) > 1 else ()


def _highest_first(precisions: Iterable[Precision]) -> tuple[Precision, ...]:
    """Ordered by the bits of a weight, and then by how few weights share a scale."""

    def key(precision: Precision) -> tuple[int, float]:
        return -precision.bits_per_weight, precision.group_size or math.inf

    return tuple(sorted(precisions, key=key))
