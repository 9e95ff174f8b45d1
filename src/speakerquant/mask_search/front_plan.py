"""Which masks to measure so that the whole front of sizes and error rates is known."""

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from speakerquant.errors import UserError
from speakerquant.forecasting.additive_number import AdditiveNumber, Ranks
from speakerquant.forecasting.forecast import Forecast, MeasuredList, MeasuredMask, Predicted
from speakerquant.mask_search.candidates import Masks, candidates
from speakerquant.mask_search.choices import Choices
from speakerquant.mask_search.hypervolume import expected_gain, front_heights, hypervolume
from speakerquant.measuring.engine_metrics import ENGINE_SIZE, SIZE_RATIO
from speakerquant.measuring.result import MASK_PREFIX, is_of_embeddings
from speakerquant.progress import track
from speakerquant.search.front import front_of
from speakerquant.search.goals import Goals
from speakerquant.search.history import FAILURE, History, result_of
from speakerquant.search.space import Point
from speakerquant.search.view import Effect
from speakerquant.statistics.error_metrics import EER
from speakerquant.statistics.scores import Embeddings

Array = npt.NDArray[np.float64]
Result = Mapping[str, Any]
Numbers = Mapping[str, float]

SIZE, RATIO = ENGINE_SIZE.name, SIZE_RATIO.name
LOSS, LOSS_HIGH = EER.delta.name, EER.delta.high.name
"""Names of numbers of a result: of sizes, of the loss and the upper end of its interval."""

_ADDITIVE = (SIZE, RATIO)  # predicted as sums of what units change alone; latencies are no such sums

_CLOSED = 1e-3  # share of the hypervolume that every mask not measured is expected to add less than
_PROVEN = 16  # smallest masks that bounds are predicted for one by one; among larger ones bisection finds one
_TOGETHER = 4  # masks that all processes measure at once: each tells which others are worth it
_IN_A_STEP = 2_500  # masks predicted between two steps of a progress bar; it takes seconds
_LEAST_DEVIATION = 1e-6  # of an EER, in steps of the list


@dataclass(frozen=True)
class _Outlook:
    """What all that was measured says of the masks that may be.

    Attributes:
        results: What was measured, by ranks.
        forecast: What predicts.
        masks: The masks that may be, ``[num_masks, num_units]``.
        predicted: What they are predicted to be.
        numbers: What bounds are on, as predicted of some masks by ranks.
        left_out: The same of measured ones, from all others.
    """

    results: Mapping[Ranks, Result]
    forecast: Forecast
    masks: Masks
    predicted: Predicted
    numbers: dict[Ranks, Numbers] = field(default_factory=dict)
    left_out: dict[Ranks, Numbers] = field(default_factory=dict)


class FrontPlan:
    """First points of a search that, once they are measured, need no sampler after them.

    First all units in their highest precision, each alone in its lowest, and all in each lower one. From
    these all masks are predicted. Then, one after the other, whatever mask is expected to enlarge the
    measured front most, until none is expected to add a thousandth; and if there are bounds on what
    embeddings tell, such as the upper end of the loss, smaller masks that are predicted to meet them.

    Args:
        choices: The units.
        goals: Objectives ``engine_size_bytes`` and ``delta_eer``, and constraints.
        measured_on: The list that masks are measured on.
        embeddings_of: Embeddings ``[num_recordings, dim]`` of a result.
    """

    def __init__(
        self,
        choices: Choices,
        goals: Goals,
        measured_on: MeasuredList,
        embeddings_of: Callable[[Result], Embeddings],
    ) -> None:
        self._choices = choices
        self._goals = goals
        self._list = measured_on
        self._embeddings_of = embeddings_of
        self._bounds = {name: bound for name, bound in goals.constraints.items() if is_of_embeddings(name)}
        sums = {name: bound for name, bound in goals.constraints.items() if name in _ADDITIVE}
        self._predicted_goals = Goals(goals.objectives, self._bounds | sums)
        self._lowest = [len(each) - 1 for each in choices.precisions.values()]
        self._base = (0,) * len(self._lowest)
        self._embeddings: dict[Ranks, Embeddings] = {}
        self._candidates: Masks | None = None
        self._latest: _Outlook | None = None

    def known(self, history: History) -> tuple[Sequence[Point], bool]:
        """What to measure next, the best first, and whether more will follow.

        Raises:
            UserError: the masks that all others are predicted from failed, or no mask meets a constraint.
        """
        if first := self._first_to_come(history):
            return first, True
        if self._is_of_one_unit:
            return [], False  # all masks are among the first
        if (room := _TOGETHER - len(history.running)) <= 0:
            return [], True
        outlook = self._outlook(history)
        worth = self._enlarging(history, outlook, room) or self._proving(history, outlook)
        return [self._choices.point_of(ranks) for ranks in worth], bool(worth or history.running)

    def predictions(self, history: History) -> dict[int, dict[str, float]]:
        """What measured masks with several lowered units are predicted to be from all others but themselves.

        Returns:
            By number of the trial, size, loss, what 95 of 100 predictions of a loss are off at most, and what
            there are bounds on.
        """
        if self._is_of_one_unit or self._first_to_come(history):
            return {}
        outlook = self._outlook(history)
        forecast = outlook.forecast
        numbers = {self._choices.ranks_of(trial.params): trial.number for trial in history.completed}
        left_out = forecast.left_out()
        losses = left_out.eers - self._list.baseline_eer
        rows = zip(left_out.sizes, losses, left_out.errors, strict=True)
        return {
            numbers[ranks]: {
                **self._left_out(outlook, ranks),
                **{SIZE: float(size), LOSS: float(loss), f"{LOSS}_error": float(error)},
            }
            for ranks, (size, loss, error) in zip(forecast.several, rows, strict=True)
        }

    def alone(self, history: History) -> list[Effect]:
        """The measured masks with one unit lowered."""
        effects = []
        units = list(self._choices.precisions.items())
        for trial in history.completed:
            ranks = self._choices.ranks_of(trial.params)
            if np.count_nonzero(ranks) == 1:
                [unit] = np.flatnonzero(ranks)
                axis, precisions = units[unit]
                choice = precisions[ranks[unit]].name
                effects.append(Effect(axis.removeprefix(MASK_PREFIX), choice, trial.number))
        return effects

    @property
    def _is_of_one_unit(self) -> bool:
        return len(self._lowest) == 1

    def _first_to_come(self, history: History) -> list[Point]:
        """What all others are predicted from, unless all of it is known."""
        first = self._first(history)
        return first if any(history.space.key(point) not in history.finished for point in first) else []

    def _first(self, history: History) -> list[Point]:
        """What all others are predicted from; and where one of these failed, what tells which unit it was."""
        failed = self._failed(history)
        uniform = self._uniform()
        found = [self._base]
        for unit, lowest in enumerate(self._lowest):
            for rank in range(lowest, 0, -1):
                found.append(self._alone(unit, rank))
                if found[-1] not in failed:
                    break
        found += uniform
        found += [self._alone(*step) for ranks in uniform if ranks in failed for step in enumerate(ranks)]
        return [self._choices.point_of(ranks) for ranks in dict.fromkeys(found)]

    def _uniform(self) -> list[Ranks]:
        """For every lower precision, all units in it."""
        return [self._choices.ranks_of(point) for point in self._choices.uniform()]

    def _alone(self, unit: int, rank: int) -> Ranks:
        """One unit lowered."""
        return (*self._base[:unit], rank, *self._base[unit + 1 :])

    def _failed(self, history: History) -> set[Ranks]:
        return {self._choices.ranks_of(trial.params) for trial in history.failed}

    def _outlook(self, history: History) -> _Outlook:
        results = {self._choices.ranks_of(trial.params): result_of(trial) for trial in history.completed}
        if self._latest is None or self._latest.results.keys() != results.keys():
            forecast = self._forecast(results, history)
            masks = self._within_budgets(results, history)
            self._latest = _Outlook(results, forecast, masks, _predicted(forecast, masks))
        return self._latest

    def _forecast(self, results: Mapping[Ranks, Result], history: History) -> Forecast:
        several = [ranks for ranks in results if np.count_nonzero(ranks) > 1]
        if self._base not in results or not several:
            raise UserError(f"the front cannot be predicted: {_reason(history)}")
        for ranks, result in results.items():
            if ranks not in self._embeddings:
                self._embeddings[ranks] = self._embeddings_of(result)
        measured = {
            ranks: MeasuredMask(result[SIZE], result[EER.name], self._embeddings[ranks])
            for ranks, result in results.items()
        }
        return Forecast(measured, self._list.trials)

    def _within_budgets(self, results: Mapping[Ranks, Result], history: History) -> Masks:
        """The candidates that constraints on sizes allow.

        Raises:
            UserError: there is none.
        """
        if self._candidates is None:
            self._candidates = self._find_candidates(results, history)
        allowed = np.ones(len(self._candidates), np.bool_)
        for name, bound in self._goals.constraints.items():
            if name in _ADDITIVE:
                values = self._sums(name, results)
                if not (values <= bound).any():
                    raise UserError(
                        f"{name} <= {bound:g}: no mask comes below {values.min():g}; allow more than that"
                    )
                allowed &= values <= bound
        return self._candidates[allowed]

    def _find_candidates(self, results: Mapping[Ranks, Result], history: History) -> Masks:
        """Masks that may be on the front by all that the first ones say.

        By no others, so that whoever goes on with a study has the same candidates.
        """
        first = {self._choices.ranks_of(point) for point in self._first(history)}
        forecast = self._forecast({ranks: results[ranks] for ranks in results if ranks in first}, history)
        failed = self._failed(history)
        works = [
            [rank for rank in range(lowest + 1) if self._alone(unit, rank) not in failed]
            for unit, lowest in enumerate(self._lowest)
        ]

        def work(masks: Iterable[Ranks]) -> list[bool]:
            return [all(rank in ranks for rank, ranks in zip(mask, works, strict=True)) for mask in masks]

        parts: list[Predicted] = []

        def objectives(masks: Masks) -> Array:
            parts.append(forecast.predict(masks))
            return np.stack([parts[-1].sizes, parts[-1].eers], axis=1)

        lowest = tuple(ranks[-1] for ranks in works)
        uniform = self._uniform()
        seeds = [self._base, lowest, *itertools.compress(uniform, work(uniform))]
        found = candidates([1 + rank for rank in lowest], objectives, seeds)
        predicted = _joined(parts) if parts else _predicted(forecast, found)
        can_be_built = np.array(work(map(tuple, found)))
        sizes, eers, errors = (
            each[can_be_built] for each in (predicted.sizes, predicted.eers, predicted.errors)
        )
        may_be_best = eers - errors <= front_heights(np.stack([sizes, eers], axis=1))
        best: Masks = found[can_be_built][may_be_best]
        return best

    def _sums(self, name: str, results: Mapping[Ranks, Result]) -> Array:
        """A number of every candidate, as if changes of units added up."""
        assert self._candidates is not None
        values = {ranks: float(result[name]) for ranks, result in results.items()}
        return AdditiveNumber(values.pop(self._base), values).of(self._candidates)

    def _enlarging(self, history: History, outlook: _Outlook, most: int) -> list[Ranks]:
        """Masks that are expected to enlarge the measured front, the best first."""
        points = np.array(
            [[result[SIZE], result[EER.name]] for result in outlook.results.values()], np.float64
        )
        reference = points.max(axis=0)
        predicted = outlook.predicted
        step = outlook.forecast.step
        deviations = np.maximum(predicted.deviations, _LEAST_DEVIATION * step)
        gains = expected_gain(points, reference, predicted.sizes, predicted.eers, deviations)
        # At least as if all but the largest were a step better: of EERs that are alike there is no area.
        area = max(hypervolume(points, reference), float(reference[0] - points[:, 0].min()) * step)
        order = np.argsort(-gains)[: np.count_nonzero(gains > _CLOSED * area)]
        return list(itertools.islice(self._unmeasured(history, outlook.masks[order]), most))

    def _proving(self, history: History, outlook: _Outlook) -> list[Ranks]:
        """A mask predicted to meet all bounds that is smaller than what meets them so far."""
        if not self._bounds:
            return []
        # Whatever meets them may miss a bound that nothing predicts, such as a latency; so would the others.
        recommended = front_of(history, self._predicted_goals).recommended
        if recommended and self._goals.deciding != SIZE:
            return []  # not the smallest is wanted
        sizes = outlook.predicted.sizes
        smaller = sizes < (recommended.result[SIZE] if recommended else np.inf)
        hopeful = np.flatnonzero(smaller & (self._upper_ends(outlook) <= self._bounds.get(LOSS_HIGH, np.inf)))
        by_size = outlook.masks[hopeful[np.argsort(sizes[hopeful])]]
        masks = list(self._unmeasured(history, by_size))

        def meets_bounds(ranks: Ranks) -> bool:
            return self._meets_bounds(outlook, ranks)

        smallest, larger = masks[:_PROVEN], masks[_PROVEN:]
        if found := next(filter(meets_bounds, smallest), None):
            return [found]
        place = bisect.bisect_left(larger, True, key=meets_bounds)  # larger masks meet more bounds, mostly
        return larger[place : place + 1]

    def _upper_ends(self, outlook: _Outlook) -> Array:
        """About where the upper ends of the losses of all masks are, ``[num_masks]``."""
        # By how much they are above the loss grows with how far a mask moves embeddings.
        results, forecast = outlook.results, outlook.forecast
        masks = np.array([*results])
        above = np.array([result[LOSS_HIGH] - result[LOSS] for result in results.values()])
        moved = forecast.moved(masks)
        width = np.median(above[moved > 0] / moved[moved > 0]) if moved.any() else 0.0
        upper_ends: Array = (
            outlook.predicted.eers - self._list.baseline_eer + width * forecast.moved(outlook.masks)
        )
        return upper_ends

    def _meets_bounds(self, outlook: _Outlook, ranks: Ranks) -> bool:
        """Whether a mask is predicted to meet every bound on what embeddings tell."""
        if ranks not in outlook.numbers:
            embeddings = outlook.forecast.embeddings(ranks)
            outlook.numbers[ranks] = self._list.numbers_of(embeddings, self._bounds)
        numbers = outlook.numbers[ranks]
        # What a list is too short to tell meets no bound.
        return all(numbers.get(name, np.inf) <= bound for name, bound in self._bounds.items())

    def _left_out(self, outlook: _Outlook, ranks: Ranks) -> Numbers:
        """What bounds are on, of a measured mask as it is predicted from all others."""
        if self._bounds and ranks not in outlook.left_out:
            embeddings = outlook.forecast.left_out_embeddings(ranks)
            outlook.left_out[ranks] = self._list.numbers_of(embeddings, self._bounds)
        return outlook.left_out.get(ranks, {})

    def _unmeasured(self, history: History, masks: Masks) -> Iterator[Ranks]:
        """Those of the masks that have neither been measured nor are being measured."""
        taken = {
            self._choices.ranks_of(trial.params)
            for trial in (*history.finished.values(), *history.running.values())
        }
        return (ranks for mask in masks if (ranks := tuple(map(int, mask))) not in taken)


def _predicted(forecast: Forecast, masks: Masks) -> Predicted:
    """Predictions of masks, behind a progress bar if they are many."""
    starts = range(0, len(masks), _IN_A_STEP)
    parts = [
        forecast.predict(masks[start : start + _IN_A_STEP])
        for start in track(starts, f"{len(masks)} masks", total=len(starts), visible=len(starts) > 1)
    ]
    return _joined(parts)


def _joined(parts: Sequence[Predicted]) -> Predicted:
    columns = ([getattr(part, each.name) for part in parts] for each in fields(Predicted))
    return Predicted(*map(np.concatenate, columns))


def _reason(history: History) -> str:
    """Why the first mask that failed did so."""
    return str(history.failed[0].user_attrs.get(FAILURE)) if history.failed else "nothing was measured"
