"""What a study has recorded so far, read as the search understands it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from speakerquant.search.space import Point, Space

# User attributes of a trial.
OWNER = "owner"
HEARTBEAT = "heartbeat"
SOURCE = "source"
RESULT = "result"
FAILURE = "failure"
REPEAT_OF = "repeat_of"
INTERRUPTED = "interrupted"
POSTPONED = "postponed"
MAY_BE_CAUSE = "may be the cause"
WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class History:
    """The trials of a study, sorted by what they mean for the search.

    Attributes:
        space: What is searched.
        trials: All of them, in order.
    """

    space: Space
    trials: Sequence[FrozenTrial]

    @cached_property
    def running(self) -> dict[str, FrozenTrial]:
        """The trials that are being evaluated, by point."""
        return self._by_point(trial for trial in self.trials if trial.state is TrialState.RUNNING)

    @cached_property
    def finished(self) -> dict[str, FrozenTrial]:
        """The trials that completed or failed by themselves, by point; not repeats, nor those broken off."""
        return self._by_point(trial for trial in self.trials if _is_finished(trial))

    @property
    def completed(self) -> list[FrozenTrial]:
        """The finished trials that have values, in order."""
        return [trial for trial in self.finished.values() if trial.state is TrialState.COMPLETE]

    @property
    def failed(self) -> list[FrozenTrial]:
        """The finished trials that failed, in order."""
        return [trial for trial in self.finished.values() if trial.state is TrialState.FAIL]

    @cached_property
    def interruptions(self) -> dict[str, int]:
        """How often the trials of a point were interrupted, by point."""
        counts: dict[str, int] = {}
        for trial in self.trials:
            if _is_broken_off(trial) and INTERRUPTED in trial.user_attrs:
                key = self.space.key(trial.params)
                counts[key] = counts.get(key, 0) + 1
        return counts

    def goes_alone(self, point: Point) -> bool:
        """Whether a point may be what broke an evaluation off, which others are to be spared."""
        key = self.space.key(point)
        return any(
            MAY_BE_CAUSE in trial.user_attrs and self.space.key(trial.params) == key for trial in self.trials
        )

    def to_retry(self) -> list[Point]:
        """The points whose trial was broken off and that no process has taken up again."""
        return [
            trial.params
            for key, trial in self._by_point(t for t in self.trials if _is_broken_off(t)).items()
            if key not in self.finished and key not in self.running
        ]

    def _by_point(self, trials: Any) -> dict[str, FrozenTrial]:
        by_point: dict[str, FrozenTrial] = {}
        for trial in trials:
            by_point.setdefault(self.space.key(trial.params), trial)
        return by_point


def result_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """The job's whole result, of which the objectives are a part."""
    result: Mapping[str, Any] = trial.user_attrs.get(RESULT, {})
    return result


def _is_broken_off(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.FAIL and not trial.user_attrs.keys().isdisjoint((INTERRUPTED, POSTPONED))


def _is_finished(trial: FrozenTrial) -> bool:
    if REPEAT_OF in trial.user_attrs or WITHDRAWN in trial.user_attrs:
        return False
    return trial.state in (TrialState.COMPLETE, TrialState.FAIL) and not _is_broken_off(trial)
