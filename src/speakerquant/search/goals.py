"""What a search is for: objectives to minimise or maximise, and constraints, by their names in a result."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from optuna.study import StudyDirection

from speakerquant.errors import UserError

DIRECTIONS = ("minimize", "maximize")


@dataclass(frozen=True)
class Measured:
    """What the goals read from a result.

    Attributes:
        objectives: Value by name.
        excesses: By how much each constraint is exceeded; zero or less where it is met.
    """

    objectives: Mapping[str, float]
    excesses: Mapping[str, float]


@dataclass(frozen=True)
class Goals:
    """Objectives with their direction, constraints with their upper bound.

    Names reach into nested results with dots, such as ``seconds.embedding``.

    Raises:
        UserError: there is no objective, a direction is unknown, or a bound is no number.
    """

    objectives: Mapping[str, str]
    constraints: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.objectives:
            raise UserError(
                "hydra.sweeper.objectives: there is none; name numbers of the job's result, "
                "such as {eer: minimize}"
            )
        for name, direction in self.objectives.items():
            if direction not in DIRECTIONS:
                raise UserError(
                    f"hydra.sweeper.objectives.{name}={direction}: unknown direction; "
                    "use minimize or maximize"
                )
        for name, bound in self.constraints.items():
            if not _is_number(bound) or not math.isfinite(bound):
                raise UserError(
                    f"hydra.sweeper.constraints.{name}={bound}: not a number; give the largest allowed value"
                )

    @property
    def names(self) -> list[str]:
        """The names of the objectives, then those of the constraints."""
        return [*self.objectives, *self.constraints]

    @property
    def deciding(self) -> str:
        """The objective that chooses among what meets the constraints: the first that has none itself."""
        free = (name for name in self.objectives if name not in self.constraints)
        return next(free, next(iter(self.objectives)))

    @property
    def directions(self) -> list[StudyDirection]:
        """The directions of the objectives, in Optuna's terms."""
        return [StudyDirection[direction.upper()] for direction in self.objectives.values()]

    def read(self, result: Mapping[str, Any]) -> Measured:
        """The result's values of objectives and constraints; they may be NaN.

        Raises:
            UserError: the result has no such number.
        """
        return Measured(
            {name: _number(result, name, "objectives") for name in self.objectives},
            {name: _number(result, name, "constraints") - bound for name, bound in self.constraints.items()},
        )

    def losses(self, values: Mapping[str, float]) -> tuple[float, ...]:
        """The objectives' values, in order, each so that less is better."""
        return tuple(
            values[name] if direction == "minimize" else -values[name]
            for name, direction in self.objectives.items()
        )


def _number(result: Mapping[str, Any], name: str, group: str) -> float:
    value = find(result, name)
    if not _is_number(value):
        raise UserError(
            f"hydra.sweeper.{group}.{name}: the job's result has no such number; "
            f"it has {', '.join(_number_names(result)) or 'none'}"
        )
    return float(value)


def find(result: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name in a nested result; none if it is not there."""
    if name in result:
        return result[name]
    for key, value in result.items():  # keys may have dots themselves, and one begin as another
        if isinstance(value, Mapping) and name.startswith(f"{key}."):
            found = find(value, name.removeprefix(f"{key}."))
            if found is not None:
                return found
    return None


def _number_names(node: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in node.items():
        if isinstance(value, Mapping):
            names.extend(_number_names(value, f"{prefix}{key}."))
        elif _is_number(value):
            names.append(f"{prefix}{key}")
    return names


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
