"""The masks to begin with: what each unit costs by itself, and the order of lowering that follows from it."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from speakerquant.quantization.precision import Precision, precision_of, registered
from speakerquant.search.goals import Goals
from speakerquant.search.history import History
from speakerquant.search.space import Point, Space

MASK_AXIS = re.compile(r"mask\.([\w.]+)")
"""An axis whose choices are precisions of the unit that the group names."""


class MaskWarmStart:
    """All units in their highest precision, all in each lower one, and each alone in each of its lower ones.

    Precisions are ordered by the bits of a weight. Once these points are measured, units are lowered one step
    after the other, the best first, until all are in their lowest.

    Args:
        space: Its axes ``mask.<unit>`` between two precisions or more are the units.
        goals: By which steps are compared.
        defaults: A value for every other axis.
    """

    def __init__(self, space: Space, goals: Goals, defaults: Point) -> None:
        self._space = space
        self._goals = goals
        self._defaults = defaults
        self._choices = {
            name: choices for name, axis in space.axes.items() if (choices := _precisions(name, axis))
        }

    def known(self, history: History) -> tuple[Sequence[Point], bool]:
        """The points so far; the greedy ones follow once all before them have finished."""
        if not self._choices:
            return [], False
        alone = [self._point({unit: lower}) for unit, (_, *rest) in self._choices.items() for lower in rest]
        first = [self._point({}), *self._uniform(), *alone]
        if not all(self._space.key(point) in history.finished for point in first):
            return first, True
        return [*first, *self._descent(history)], False

    def _uniform(self) -> list[Point]:
        """For every lower precision, the point with as many units in it as can be, the others lowest."""
        lower = {precision for _, *rest in self._choices.values() for precision in rest}
        return [
            self._point(
                {
                    unit: precision if precision in choices else choices[-1]
                    for unit, choices in self._choices.items()
                }
            )
            for precision in registered()
            if precision in lower
        ]

    def _point(self, lowered: Mapping[str, Precision]) -> Point:
        """The point with these precisions by unit, and every other unit in its highest."""
        chosen = {unit: lowered.get(unit, choices[0]).name for unit, choices in self._choices.items()}
        point = {**self._defaults, **chosen}
        return {name: point[name] for name in self._space.axes}

    def _descent(self, history: History) -> list[Point]:
        """The points after the first step, one of those alone, and before the last, one of the uniform.

        A step's cost is the difference between what its unit cost alone, after it and before it, as if
        changes of units added up. Whatever costs least comes first.
        """
        costs = self._costs(history)
        reached = dict.fromkeys(self._choices, 0)
        points = []
        for _ in range(sum(len(choices) - 1 for choices in self._choices.values()) - 1):
            steps = {
                unit: costs[unit, place + 1] - costs[unit, place]
                for unit, place in reached.items()
                if (unit, place + 1) in costs
            }
            reached[min(steps, key=steps.__getitem__)] += 1
            points.append(self._point({unit: self._choices[unit][place] for unit, place in reached.items()}))
        return points[1:]

    def _costs(self, history: History) -> dict[tuple[str, int], float]:
        """By unit and place of a precision among its choices, what that costs alone.

        It is the sum of the losses, each scaled by its range; what failed costs more than anything.
        """
        trials = {
            (unit, place): history.finished[self._space.key(self._point({unit: precision}))]
            for unit, choices in self._choices.items()
            for place, precision in enumerate(choices)
        }
        losses = np.ma.masked_invalid([self._losses(trial) for trial in trials.values()])
        ranges = np.ma.ptp(losses, axis=0).filled(1)
        costs = ((losses - losses.min(axis=0)) / np.where(ranges > 0, ranges, 1)).sum(axis=1)
        return dict(zip(trials, costs.filled(losses.shape[1] + 1).tolist(), strict=True))

    def _losses(self, trial: FrozenTrial) -> tuple[float, ...]:
        """The objectives' losses; NaN if the trial failed."""
        if trial.state is not TrialState.COMPLETE:
            return (math.nan,) * len(self._goals.objectives)
        return self._goals.losses(dict(zip(self._goals.objectives, trial.values, strict=True)))


def _precisions(name: str, axis: BaseDistribution) -> tuple[Precision, ...]:
    """The precisions that a unit can choose, the highest first; empty if the axis is not such a unit."""
    if not MASK_AXIS.fullmatch(name) or not isinstance(axis, CategoricalDistribution):
        return ()
    known = {precision.name for precision in registered()}
    if len(axis.choices) < 2 or not known.issuperset(axis.choices):
        return ()
    precisions = (precision_of(str(choice)) for choice in axis.choices)
    return tuple(sorted(precisions, key=lambda precision: precision.bits_per_weight, reverse=True))
