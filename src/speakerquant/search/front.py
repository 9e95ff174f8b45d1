"""The Pareto front of a study, and the point to take from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speakerquant.search.goals import Goals
from speakerquant.search.history import History, result_of
from speakerquant.search.space import Point


@dataclass(frozen=True)
class Entry:
    """A completed trial.

    Attributes:
        number: Number of the trial.
        point: What was evaluated.
        values: Objectives by name.
        meets_constraints: Whether the values of the trial meet every constraint of the search.
        result: The job's whole result.
    """

    number: int
    point: Point
    values: Mapping[str, float]
    meets_constraints: bool
    result: Mapping[str, Any]


@dataclass(frozen=True)
class Front:
    """What a study has found.

    Attributes:
        entries: Every completed trial, in order.
        best: Those that no other beats in one objective without losing in another.
        recommended: The best of those that meet the constraints, by the objective that decides; none if none
            meets them.
    """

    entries: Sequence[Entry]
    best: Sequence[Entry]
    recommended: Entry | None


def front_of(history: History, goals: Goals) -> Front:
    """The front of everything that has completed so far."""
    entries = []
    for trial in history.completed:
        measured = goals.read(result_of(trial))
        meets = all(excess <= 0.0 for excess in measured.excesses.values())
        entries.append(Entry(trial.number, trial.params, measured.objectives, meets, result_of(trial)))
    losses = [goals.losses(entry.values) for entry in entries]
    deciding = [*goals.objectives].index(goals.deciding)

    def rank(position: int) -> tuple[float, ...]:
        return (losses[position][deciding], *losses[position])

    order = sorted(range(len(entries)), key=rank)
    best = [entries[i] for i in order if not any(_dominates(other, losses[i]) for other in losses)]
    allowed = [entries[i] for i in order if entries[i].meets_constraints]
    return Front(entries, best, allowed[0] if allowed else None)


def _dominates(left: Sequence[float], right: Sequence[float]) -> bool:
    return left != right and all(a <= b for a, b in zip(left, right, strict=True))
