"""How an application wants its search to be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from speakerquant.search.goals import Goals, find
from speakerquant.search.space import Point

TRIAL = "trial"
"""Stands for the trial's number on an axis."""


@dataclass(frozen=True)
class Reference:
    """A point from elsewhere, drawn for comparison."""

    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Plane:
    """What the picture shows: names of numbers in the result, with their labels."""

    x: str
    y: str
    x_label: str
    y_label: str
    references: Sequence[Reference] = ()


class View(Protocol):
    """Words and axes for the results of one kind of search."""

    @property
    def point_heading(self) -> str: ...

    @property
    def headings(self) -> Sequence[str]: ...

    @property
    def plane(self) -> Plane: ...

    def describe(self, point: Point) -> str:
        """A point in few words."""

    def cells(self, result: Mapping[str, Any]) -> Sequence[str]:
        """A result under ``headings``."""

    def data(self, result: Mapping[str, Any], *, searched: bool) -> str:
        """What a result was measured on; ``searched`` tells that the search has chosen by it."""


class PlainView:
    """Everything by its own name."""

    point_heading = "point"

    def __init__(self, goals: Goals) -> None:
        self.headings = list(goals.objectives)
        x, y = self.headings[:2] if len(self.headings) > 1 else (TRIAL, self.headings[0])
        self.plane = Plane(x, y, x, y)

    def describe(self, point: Point) -> str:
        return " ".join(f"{name}={value}" for name, value in point.items())

    def cells(self, result: Mapping[str, Any]) -> Sequence[str]:
        return [f"{find(result, name):.6g}" for name in self.headings]

    def data(self, result: Mapping[str, Any], *, searched: bool) -> str:
        return "while searching" if searched else "afterwards"
