"""Asks an Optuna sampler for a point without letting it write to the study."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GridSampler,
    QMCSampler,
    RandomSampler,
)
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from speakerquant.errors import UserError, first_line
from speakerquant.search.goals import Goals
from speakerquant.search.space import Point, Space

MakeSampler = Callable[[int], BaseSampler]
"""A sampler for a seed."""

_IGNORES_CONSTRAINTS = (BruteForceSampler, CmaEsSampler, GridSampler, QMCSampler, RandomSampler)


@dataclass(frozen=True)
class Suggestion:
    """A point, and what the sampler wants to remember with its trial."""

    point: Point
    system_attrs: dict[str, Any]


def check_sampler(sampler: BaseSampler, space: Space, goals: Goals) -> str | None:
    """A warning if the sampler ignores the constraints.

    Raises:
        UserError: it cannot work with these objectives or this space.
    """
    name = type(sampler).__name__
    values = [0.0] * len(goals.objectives)
    trials = []
    for seed in range(2):
        point = space.random_unseen((), seed)
        assert point is not None
        trials.append(create_trial(params=dict(point), distributions=dict(space.axes), values=values))
    try:
        Suggester(sampler, space, goals).suggest(trials)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"hydra.sweeper.sampler: {name} cannot search this ({first_line(error)}); "
            "use another, such as optuna.samplers.TPESampler"
        ) from None
    if goals.constraints and isinstance(sampler, _IGNORES_CONSTRAINTS):
        return f"hydra.sweeper.sampler: {name} does not look at constraints; they only choose the result"
    return None


class Suggester:
    """Asks a sampler what to try next.

    The sampler works on a copy of the study in memory. The study itself therefore never holds a running trial
    without its point, which is what makes claims exact (:meth:`speakerquant.search.ledger.Ledger.claim`).
    """

    def __init__(self, sampler: BaseSampler, space: Space, goals: Goals) -> None:
        self._sampler = sampler
        self._space = space
        self._goals = goals
        self._study_attrs: dict[str, Any] = {}  # what the sampler notes about the study, from copy to copy

    def suggest(self, trials: Sequence[FrozenTrial]) -> Suggestion:
        """The next point, given the study's trials, always the same ones at the front."""
        with _quiet():
            storage = InMemoryStorage()
            copy = optuna.create_study(
                storage=storage, directions=self._goals.directions, sampler=self._sampler, study_name="copy"
            )
            study_id = storage.get_study_id_from_name("copy")
            for name, value in self._study_attrs.items():
                storage.set_study_system_attr(study_id, name, value)
            copy.add_trials([trial for trial in trials if trial.state is not TrialState.WAITING])
            trial = copy.ask(dict(self._space.axes))
            self._study_attrs = storage.get_study_system_attrs(study_id)
        frozen = copy.trials[trial.number]
        return Suggestion(dict(trial.params), dict(frozen.system_attrs))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from logging about the copies."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
