"""How a number of a result is read: one description beside each field, for tables, pictures and searches."""

from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from typing import Any

_KEY = "figure"


class Direction(StrEnum):
    """Which of two values is better, in Optuna's words."""

    minimize = "minimize"
    maximize = "maximize"


@dataclass(frozen=True)
class Figure:
    """A number of a result.

    Attributes:
        heading: Its name in tables, pictures and reports, without the unit.
        unit: What it is shown in; empty for plain numbers.
        direction: Which values are better.
        format: Format specification of the shown value, such as ``+.3f``.
        scale: The shown value is the number in the result times this.
        is_time: Whether it is a time, which depends on the machine and on what else runs there.
        interval: Names of the numbers of the result that bound it with confidence, if there are any.
    """

    heading: str
    unit: str
    direction: Direction
    format: str = ".3f"
    scale: float = 1.0
    is_time: bool = False
    interval: tuple[str, str] | None = None

    @property
    def label(self) -> str:
        """Heading and unit, such as ``size MB``."""
        return f"{self.heading} {self.unit}".strip()

    def text(self, value: float) -> str:
        """The value as it is shown."""
        return format(self.scale * value, self.format)


def described(figure: Figure, **options: Any) -> Any:
    """A dataclass field that the figure describes; the options are those of :func:`dataclasses.field`."""
    return field(metadata={_KEY: figure}, **options)


def figures_of(result: type[Any]) -> dict[str, Figure]:
    """The described fields of a dataclass by name, in order."""
    return {entry.name: entry.metadata[_KEY] for entry in fields(result) if _is_described(entry)}


def _is_described(entry: "Field[Any]") -> bool:
    return _KEY in entry.metadata
