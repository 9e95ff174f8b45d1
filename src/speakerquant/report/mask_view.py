"""How a search over masks is shown."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speakerquant.architectures.published_results import PublishedResults
from speakerquant.cache import Cache
from speakerquant.measuring.result import FOLDER, MASK_PREFIX, RUN_ID, below, metric_of
from speakerquant.report.mask_words import mask_name
from speakerquant.report.multirun_report import POINT_HEADING, X, Y, built_only
from speakerquant.report.networks import SHOWN
from speakerquant.search.history import History
from speakerquant.search.space import Point
from speakerquant.search.view import Effect, PlainQuantity, Plane, Predictions, Quantity, Reference
from speakerquant.statistics.comparison import is_tie

MaskNames = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Gives the precisions of all units, by name, for those of the searched ones."""


class MaskView:
    """Masks by their quantized units; size and EER relative to FP32, as those of others can be compared.

    Args:
        final_list: The trial list of the final evaluation; a search on it has seen the data it is judged by.
        cache: Where evaluations keep what masks are compared by.
        published: What others have published of the network, if they have.
        names: The precisions of all units, by name, for those of the searched ones.
        predict: What trials were predicted to be, by number, if they were.
        effects: Trials with one unit in a lower precision, if there are such by plan.
    """

    point_heading = POINT_HEADING
    columns = tuple(metric.name for metric in SHOWN)

    def __init__(
        self,
        final_list: str,
        cache: Cache,
        published: PublishedResults | None = None,
        names: MaskNames = lambda searched: searched,
        predict: Callable[[History], Predictions] = lambda history: {},
        effects: Callable[[History], Sequence[Effect]] = lambda history: [],
    ) -> None:
        self._final_list = final_list
        self._cache = cache
        self._names = names
        self._ties: dict[frozenset[str], bool | None] = {}
        self.plane = Plane(X.name, Y.name, _references(published) if published else ())
        self.predictions = predict
        self.effects = effects

    def quantity(self, name: str) -> Quantity:
        return metric_of(name) or PlainQuantity(name)

    def describe(self, point: Point) -> str:
        mask = {unit: str(value) for unit, value in below(MASK_PREFIX, point).items()}
        others = [f"{name}={value}" for name, value in point.items() if not name.startswith(MASK_PREFIX)]
        return " ".join([mask_name(self._names(mask)), *others] if mask else others)

    def data(self, result: Mapping[str, Any], *, searched: bool) -> str:
        words = [f"on the {result['trial_list']} list"]
        if searched and result["trial_list"] == self._final_list:
            words.append("which the search has seen")
        if not result.get("executed", True):
            words.append(built_only(result["scores_from"]))
        return ", ".join(words)

    def place(self, result: Mapping[str, Any]) -> str | None:
        if RUN_ID not in result:  # as those of earlier versions
            return None
        run = f"MLflow run {result[RUN_ID]}"
        return f"in {result[FOLDER]}, {run}" if Path(result[FOLDER]).is_dir() else run

    def is_tie(self, result: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
        draws, others = result.get("draws"), other.get("draws")  # results of earlier versions have none
        if not (draws and others):
            return None
        pair = frozenset((draws, others))
        if self._ties.get(pair) is None:  # what the cache does not have, another process may put there
            self._ties[pair] = is_tie(draws, others, self._cache)
        return self._ties[pair]

    def remarks(self, points: Sequence[Point]) -> Sequence[str]:
        """Units that could be one unit: they have the same precision in every mask."""
        alike: dict[tuple[str, ...], list[str]] = {}
        for axis in points[0] if len(points) > 1 else ():
            if axis.startswith(MASK_PREFIX):
                precisions = tuple(str(point[axis]) for point in points)
                alike.setdefault(precisions, []).append(axis.removeprefix(MASK_PREFIX))
        groups = [", ".join(units) for units in alike.values() if len(units) > 1]
        return [f"of the same precision in all these masks: {'; '.join(groups)}"] if groups else []


def _references(published: PublishedResults) -> Sequence[Reference]:
    proposed = published.proposed
    return (
        Reference(f"FP32, here and in the {published.label}", 1.0, 0.0),
        Reference(
            f"{published.label}'s proposal", published.size_ratio(proposed), published.delta_eer(proposed)
        ),
    )
