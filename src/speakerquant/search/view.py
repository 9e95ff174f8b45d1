"""How an application wants its search to be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from speakerquant.search.goals import Goals
from speakerquant.search.history import History
from speakerquant.search.space import Point

TRIAL = "trial"
"""Stands for the trial's number on an axis."""

Predictions = Mapping[int, Mapping[str, float]]
"""Predicted numbers of results by name, by number of the trial."""


@dataclass(frozen=True)
class Effect:
    """A trial that shows what one choice does alone, everything else being as in the base.

    Attributes:
        part: What the choice is of.
        choice: What was chosen for it.
        number: The trial's.
    """

    part: str
    choice: str
    number: int


class Quantity(Protocol):
    """How a number of a result is shown."""

    @property
    def label(self) -> str:
        """Its heading, with its unit."""

    @property
    def scale(self) -> float:
        """The shown value is the number in the result times this."""

    @property
    def interval(self) -> tuple[str, str] | None:
        """Names of the numbers of the result that bound it with confidence, if there are any."""

    def text(self, value: float) -> str:
        """The number in the result as it is shown."""


@dataclass(frozen=True)
class PlainQuantity:
    """A number of which nothing but its name is known."""

    label: str
    scale: float = 1.0
    interval: tuple[str, str] | None = None

    def text(self, value: float) -> str:
        return f"{value:.6g}"


@dataclass(frozen=True)
class Reference:
    """A point from elsewhere, drawn for comparison."""

    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Plane:
    """What the picture shows: the names of two numbers of the result, and points to compare with."""

    x: str
    y: str
    references: Sequence[Reference] = ()


class View(Protocol):
    """Words and axes for the results of one kind of search."""

    @property
    def point_heading(self) -> str:
        """What points are called."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the numbers that are shown of every result, whatever the goals."""

    @property
    def plane(self) -> Plane: ...

    def quantity(self, name: str) -> Quantity:
        """How the number of this name is shown."""

    def describe(self, point: Point) -> str:
        """A point in few words."""

    def data(self, result: Mapping[str, Any], *, searched: bool) -> str:
        """What a result was measured on; ``searched`` tells that the search has chosen by it."""

    def place(self, result: Mapping[str, Any]) -> str | None:
        """Where what a job has left beside its result can be found, if that is known."""

    def is_tie(self, result: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
        """Whether nothing shows which of two results is better, size aside; none if that is not known."""

    def predictions(self, history: History) -> Predictions:
        """What trials were predicted to be, by number, if they were."""

    def effects(self, history: History) -> Sequence[Effect]:
        """The trials that show what choices do alone, if there are such."""

    def remarks(self, points: Sequence[Point]) -> Sequence[str]:
        """What there is to say of the points of a front, in lines."""


class PlainView:
    """Everything by its own name."""

    point_heading = "point"

    def __init__(self, goals: Goals) -> None:
        self.columns = list(goals.objectives)
        x, y = self.columns[:2] if len(self.columns) > 1 else (TRIAL, self.columns[0])
        self.plane = Plane(x, y)

    def quantity(self, name: str) -> Quantity:
        return PlainQuantity(name)

    def describe(self, point: Point) -> str:
        return " ".join(f"{name}={value}" for name, value in point.items())

    def data(self, result: Mapping[str, Any], *, searched: bool) -> str:
        return "while searching" if searched else "afterwards"

    def place(self, result: Mapping[str, Any]) -> str | None:
        return None

    def is_tie(self, result: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
        return None

    def predictions(self, history: History) -> Predictions:
        return {}

    def effects(self, history: History) -> Sequence[Effect]:
        return []

    def remarks(self, points: Sequence[Point]) -> Sequence[str]:
        return []
