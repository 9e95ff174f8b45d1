"""The masks to begin with: what each unit costs by itself, and the order of lowering that follows from it."""

import math
from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from speakerquant.mask_search.choices import Choices
from speakerquant.search.goals import Goals
from speakerquant.search.history import History
from speakerquant.search.space import Point


class MaskWarmStart:
    """All units in their highest precision, all in each lower one, and each alone in each of its lower ones.

    Once these points are measured, units are lowered one step after the other, the best first, until all are
    in their lowest.

    Args:
        choices: The units.
        goals: By which steps are compared.
    """

    def __init__(self, choices: Choices, goals: Goals) -> None:
        self._choices = choices
        self._goals = goals
        self._precisions = choices.precisions

    def known(self, history: History) -> tuple[Sequence[Point], bool]:
        """The points so far; the greedy ones follow once all before them have finished."""
        if not self._precisions:
            return [], False
        first = [self._choices.point({}), *self._choices.uniform(), *self._choices.alone()]
        if not all(history.space.key(point) in history.finished for point in first):
            return first, True
        return [*first, *self._descent(history)], False

    def _descent(self, history: History) -> list[Point]:
        """The points after the first step, one of those alone, and before the last, one of the uniform.

        A step's cost is the difference between what its unit cost alone, after it and before it, as if
        changes of units added up. Whatever costs least comes first.
        """
        costs = self._costs(history)
        reached = dict.fromkeys(self._precisions, 0)
        points = []
        for _ in range(sum(len(choices) - 1 for choices in self._precisions.values()) - 1):
            steps = {
                unit: costs[unit, place + 1] - costs[unit, place]
                for unit, place in reached.items()
                if (unit, place + 1) in costs
            }
            reached[min(steps, key=steps.__getitem__)] += 1
            points.append(self._choices.point_of(list(reached.values())))
        return points[1:]

    def _costs(self, history: History) -> dict[tuple[str, int], float]:
        """By unit and place of a precision among its choices, what that costs alone.

        It is the sum of the losses, each scaled by its range; what failed costs more than anything.
        """
        trials = {
            (unit, place): history.finished[history.space.key(self._choices.point({unit: precision}))]
            for unit, choices in self._precisions.items()
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
