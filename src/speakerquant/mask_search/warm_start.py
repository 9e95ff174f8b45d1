"""The masks to begin with: what each unit costs by itself, and the greedy order that follows from it."""

import re
from collections.abc import Mapping, Sequence

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from speakerquant.quantization.precision import BASELINE, Precision, precision_of, registered
from speakerquant.search.goals import Goals
from speakerquant.search.history import History
from speakerquant.search.space import Point, Space

MASK_AXIS = re.compile(r"mask\.([\w.]+)")
"""An axis whose choices are precisions of the unit that the group names."""


class MaskWarmStart:
    """The baseline, every other precision for all units, and each unit alone in its smallest precision.

    Once these are measured, units are put into their smallest precision one after the other, the best first.

    Args:
        space: Its axes ``mask.<unit>`` between the baseline and other precisions are the units.
        goals: By which units are compared.
        defaults: A value for every other axis.
    """

    def __init__(self, space: Space, goals: Goals, defaults: Point) -> None:
        self._space = space
        self._goals = goals
        self._defaults = defaults
        self._choices = {
            name: choices for name, axis in space.axes.items() if (choices := _precisions(name, axis))
        }
        self._smallest = {
            unit: min(choices, key=lambda precision: precision.bits_per_weight)
            for unit, choices in self._choices.items()
        }

    def known(self, history: History) -> tuple[Sequence[Point], bool]:
        """The points so far; the greedy ones follow once all before them have finished."""
        if not self._choices:
            return [], False
        singles = [self._quantized([unit]) for unit in self._choices]
        first = [self._point({}), *self._uniform(), *singles]
        if not all(self._space.key(point) in history.finished for point in first):
            return first, True
        order = self._greedy_order(history)
        return [*first, *(self._quantized(order[:count]) for count in range(2, len(order)))], False

    def _uniform(self) -> list[Point]:
        """For every further precision, the point with as many units in it as can be, the others smallest."""
        further = [
            precision
            for precision in registered()
            if precision != BASELINE and any(precision in choices for choices in self._choices.values())
        ]
        return [
            self._point(
                {
                    unit: precision if precision in choices else self._smallest[unit]
                    for unit, choices in self._choices.items()
                }
            )
            for precision in further
        ]

    def _quantized(self, units: Sequence[str]) -> Point:
        """The point with these units in their smallest precision."""
        return self._point({unit: self._smallest[unit] for unit in units})

    def _point(self, precisions: Mapping[str, Precision]) -> Point:
        """The point with these precisions by unit, and the baseline for every other unit."""
        chosen = {unit: precisions.get(unit, BASELINE).name for unit in self._choices}
        point = {**self._defaults, **chosen}
        return {name: point[name] for name in self._space.axes}

    def _greedy_order(self, history: History) -> list[str]:
        """Units by the sum of the losses of quantizing each alone, every objective scaled by its range."""
        trials = {
            unit: trial
            for unit in self._choices
            if (trial := history.finished[self._space.key(self._quantized([unit]))]).state
            is TrialState.COMPLETE
        }
        losses = {unit: self._losses(trial) for unit, trial in trials.items()}
        lows = [min(column) for column in zip(*losses.values(), strict=True)]
        ranges = [
            (max(column) - low) or 1.0
            for column, low in zip(zip(*losses.values(), strict=True), lows, strict=True)
        ]
        score = {
            unit: sum((value - low) / width for value, low, width in zip(values, lows, ranges, strict=True))
            for unit, values in losses.items()
        }
        return sorted(self._choices, key=lambda unit: score.get(unit, float("inf")))

    def _losses(self, trial: FrozenTrial) -> tuple[float, ...]:
        return self._goals.losses(dict(zip(self._goals.objectives, trial.values, strict=True)))


def _precisions(name: str, axis: BaseDistribution) -> tuple[Precision, ...]:
    """The precisions beside the baseline that a unit can choose; empty if the axis is not such a unit."""
    if not MASK_AXIS.fullmatch(name) or not isinstance(axis, CategoricalDistribution):
        return ()
    known = {precision.name for precision in registered()}
    if BASELINE.name not in axis.choices or not known.issuperset(axis.choices):
        return ()
    return tuple(precision_of(str(choice)) for choice in axis.choices if choice != BASELINE.name)
