"""What a number of a result is: one description for tables, pictures, searches and records."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from speakerquant.statistics.error_rates import ScoredTrials

_LOW, _HIGH = "_low", "_high"  # after the names of ends of intervals


class Direction(StrEnum):
    """Which of two values is better, in Optuna's words."""

    minimize = "minimize"
    maximize = "maximize"


@dataclass(frozen=True)
class Metric:
    """A number of a result.

    Attributes:
        name: Its name in ``result.json``, in MLflow, and as an objective or constraint of a search.
        heading: Its name in tables, pictures and reports, without the unit.
        unit: What it is shown in; empty for plain numbers.
        direction: Which values are better.
        format: Format specification of the shown value, such as ``+.3f``.
        scale: The shown value is the number in the result times this.
        is_time: Whether it is a time, which depends on the machine and on what else runs there.
    """

    name: str
    heading: str
    unit: str
    direction: Direction
    format: str = ".3f"
    scale: float = 1.0
    is_time: bool = False

    @property
    def label(self) -> str:
        """Heading and unit, such as ``size MB``."""
        return f"{self.heading} {self.unit}".strip()

    @property
    def interval(self) -> tuple[str, str] | None:
        """Names of the ends of its interval, if that is shown beside it."""
        return None

    def text(self, value: float) -> str:
        """The value as it is shown."""
        return format(self.scale * value, self.format)

    def derived(self, name: str, heading: str) -> "Metric":
        """Another number of the same unit, direction and format."""
        return Metric(name, heading, self.unit, self.direction, self.format, self.scale, self.is_time)


@dataclass(frozen=True)
class Estimate(Metric):
    """A number that a trial list gives, which another list would give a little differently.

    Attributes:
        largest: The most that it can be.
    """

    largest: float = math.inf

    @property
    def low(self) -> Metric:
        """The lower end of its 95 % confidence interval."""
        return self.derived(f"{self.name}{_LOW}", f"{self.heading}, lower end")

    @property
    def high(self) -> Metric:
        """The upper end."""
        return self.derived(f"{self.name}{_HIGH}", f"{self.heading}, upper end")


def is_interval_end(name: str) -> bool:
    """Whether a number of a result, by its name, is an end of a confidence interval."""
    return name.endswith((_LOW, _HIGH))


@dataclass(frozen=True)
class Loss(Estimate):
    """What a mask adds to an error metric of the baseline; its interval is what tells losses from none."""

    @property
    def interval(self) -> tuple[str, str]:
        return self.low.name, self.high.name

    @property
    def p(self) -> Metric:
        """How probable so large a difference is where there is none, two-sided."""
        return Metric(f"{self.name}_p", f"p of {self.heading}", "", Direction.maximize)


@dataclass(frozen=True)
class Compared(Estimate):
    """A number of one system that comes with that of the baseline and with the difference."""

    @property
    def baseline(self) -> Metric:
        """The same of the baseline."""
        return self.derived(f"baseline_{self.name}", f"baseline {self.heading}")

    @property
    def delta(self) -> Loss:
        """By how much it differs from that of the baseline."""
        return Loss(
            f"delta_{self.name}", f"Δ{self.heading}", self.unit, self.direction, f"+{self.format}", self.scale
        )


@dataclass(frozen=True, kw_only=True)
class ErrorMetric(Compared):
    """How wrong the scores of a trial list are.

    Whatever has an interval, and the comparison with the baseline, follows from it.

    Attributes:
        compute: The value of trials by rising score: those of a list, or of a list with its trials repeated.
        settings: What ``compute`` depends on, if that is not in the name; caches tell values apart by it.
    """

    compute: Callable[[ScoredTrials], float]
    settings: str = ""

    @property
    def numbers(self) -> tuple[Metric, ...]:
        """All that a result says of it."""
        delta = self.delta
        return self, self.low, self.high, self.baseline, delta, delta.low, delta.high, delta.p
