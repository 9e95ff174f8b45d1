"""What is searched: named axes, each with an Optuna distribution."""

import itertools
import json
import math
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

Scalar = None | bool | int | float | str
Point = Mapping[str, Scalar]
"""One value per axis."""

# Smaller spaces are listed to find unseen points; in larger ones a random point is all but surely unseen.
_LISTABLE = 1 << 16


@dataclass(frozen=True)
class Space:
    """Axes by name, in order."""

    axes: Mapping[str, BaseDistribution]

    @property
    def size(self) -> float:
        """Number of points; infinite if an axis is continuous."""
        return math.prod(_axis_size(axis) for axis in self.axes.values())

    def key(self, point: Point) -> str:
        """Text that two points share if and only if they are the same to Optuna."""
        return json.dumps([_place(axis, point[name]) for name, axis in self.axes.items()])

    def describe(self) -> dict[str, str]:
        """The axes as text, the same in every process."""
        return {name: distribution_to_json(axis) for name, axis in self.axes.items()}

    def random_unseen(self, seen: Collection[str], seed: int) -> Point | None:
        """A point whose key is not in ``seen``, the same for the same seed; none if all have been seen."""
        generator = random.Random(seed)
        if self.size <= _LISTABLE:
            unseen = [point for point in self._points() if self.key(point) not in seen]
            return generator.choice(unseen) if unseen else None
        while self.key(point := self._random_point(generator)) in seen:
            pass
        return point

    def _points(self) -> Iterator[Point]:
        for values in itertools.product(*(_axis_values(axis) for axis in self.axes.values())):
            yield dict(zip(self.axes, values, strict=True))

    def _random_point(self, generator: random.Random) -> Point:
        return {name: _random_value(axis, generator) for name, axis in self.axes.items()}


def _place(axis: BaseDistribution, value: Scalar) -> float:
    """Where the value is on its axis: a choice's index, a step's number, or the rounded value itself."""
    internal = float(axis.to_internal_repr(value))
    if isinstance(axis, IntDistribution | FloatDistribution) and axis.step is not None:
        return round((internal - axis.low) / axis.step)
    return float(f"{internal:.12g}")


def _axis_size(axis: BaseDistribution) -> float:
    if isinstance(axis, CategoricalDistribution):
        return len(axis.choices)
    assert isinstance(axis, IntDistribution | FloatDistribution)
    if axis.low == axis.high:
        return 1
    if axis.step is None:
        return math.inf
    return round((axis.high - axis.low) / axis.step) + 1  # Optuna has moved `high` onto a step


def _axis_values(axis: BaseDistribution) -> list[Scalar]:
    if isinstance(axis, CategoricalDistribution):
        return list(axis.choices)
    assert isinstance(axis, IntDistribution | FloatDistribution)
    return [_at_step(axis, index) for index in range(int(_axis_size(axis)))]


def _at_step(axis: IntDistribution | FloatDistribution, index: int) -> Scalar:
    """The value after so many steps, which rounding does not take beyond the axis."""
    return min(axis.low + index * (axis.step or 0), axis.high)


def _random_value(axis: BaseDistribution, generator: random.Random) -> Scalar:
    if isinstance(axis, FloatDistribution) and axis.step is None:
        if axis.log:
            return math.exp(generator.uniform(math.log(axis.low), math.log(axis.high)))
        return generator.uniform(axis.low, axis.high)
    size = int(_axis_size(axis))
    if isinstance(axis, CategoricalDistribution):
        return axis.choices[generator.randrange(size)]
    assert isinstance(axis, IntDistribution | FloatDistribution)
    return _at_step(axis, generator.randrange(size))
