"""The masks to begin with: what each unit costs by itself, and the greedy order that follows from it."""

import re
from collections.abc import Sequence

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from speakerquant.quantization.precision import Precision
from speakerquant.search.goals import Goals
from speakerquant.search.history import History
from speakerquant.search.space import Point, Space

MASK_AXIS = re.compile(r"mask\.\w+")


class MaskWarmStart:
    """FP32, all INT8, every unit alone in INT8; then units added one by one, the best first.

    Args:
        space: Its axes ``mask.<unit>`` that may be FP32 or INT8 are the units.
        goals: By which units are compared.
        defaults: A value for every other axis.
    """

    def __init__(self, space: Space, goals: Goals, defaults: Point) -> None:
        self._space = space
        self._goals = goals
        self._defaults = defaults
        self._units = [
            name
            for name, axis in space.axes.items()
            if MASK_AXIS.fullmatch(name)
            and isinstance(axis, CategoricalDistribution)
            and {Precision.FP32.value, Precision.INT8.value} <= set(axis.choices)
        ]

    def known(self, history: History) -> tuple[Sequence[Point], bool]:
        """The points so far; the greedy ones follow once all before them have finished."""
        if not self._units:
            return [], False
        singles = [self._point([unit]) for unit in self._units]
        first = [self._point([]), self._point(self._units), *singles]
        if not all(self._space.key(point) in history.finished for point in first):
            return first, True
        order = self._greedy_order(history)
        return [*first, *(self._point(order[:count]) for count in range(2, len(order)))], False

    def _point(self, quantized: Sequence[str]) -> Point:
        point = dict(self._defaults)
        for unit in self._units:
            point[unit] = (Precision.INT8 if unit in quantized else Precision.FP32).value
        return {name: point[name] for name in self._space.axes}

    def _greedy_order(self, history: History) -> list[str]:
        """Units by the sum of the losses of quantizing each alone, every objective scaled by its range."""
        trials = {
            unit: trial
            for unit in self._units
            if (trial := history.finished[self._space.key(self._point([unit]))]).state is TrialState.COMPLETE
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
        return sorted(self._units, key=lambda unit: score.get(unit, float("inf")))

    def _losses(self, trial: FrozenTrial) -> tuple[float, ...]:
        return self._goals.losses(dict(zip(self._goals.objectives, trial.values, strict=True)))
