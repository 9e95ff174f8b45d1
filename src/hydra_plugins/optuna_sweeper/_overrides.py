"""Translates between Hydra's override grammar and search spaces."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    FloatRange,
    IntervalSweep,
    Override,
    RangeSweep,
    Transformer,
)
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from speakerquant.errors import UserError, first_line
from speakerquant.search.space import Point, Scalar, Space

_PREFIX = re.compile(r"^(\+{0,2}|~)")


@dataclass(frozen=True)
class ParsedOverrides:
    """A search space, and the overrides that are the same in every job.

    Attributes:
        space: An axis for every key, with Hydra's prefix, that is to be searched.
        fixed: Overrides of other keys.
        keys: Every key that is overridden, without prefix.
    """

    space: Space
    fixed: Sequence[str]
    keys: frozenset[str]


def parse_overrides(
    params: Mapping[str, Any] | None, arguments: Sequence[str], config_loader: ConfigLoader | None = None
) -> ParsedOverrides:
    """Sort overrides into axes and fixed ones; an argument replaces the parameter of the same key.

    Raises:
        UserError: a range is empty, or a sweep is of a kind that cannot be searched.
    """
    lines = [*(f"{key}={_text(value)}" for key, value in (params or {}).items()), *arguments]
    axes: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    for override in OverridesParser.create(config_loader=config_loader).parse_overrides(lines):
        key = override.get_key_element()
        name = _PREFIX.sub("", key)
        for known in [other for other in (*axes, *fixed) if _PREFIX.sub("", other) == name]:
            axes.pop(known, None)
            fixed.pop(known, None)
        if override.is_sweep_override():
            axes[key] = distribution(override)
        else:
            assert override.input_line is not None
            fixed[key] = override.input_line
    keys = frozenset(_PREFIX.sub("", key) for key in (*axes, *fixed))
    return ParsedOverrides(Space(axes), list(fixed.values()), keys)


def distribution(override: Override) -> BaseDistribution:
    """The axis that a sweep describes.

    As in Hydra, ranges do not contain their end, nor do intervals of whole numbers; that an interval of
    floating-point numbers contains it makes no difference, as samplers practically never draw it.

    Raises:
        UserError: the sweep is empty, or has no counterpart.
    """
    try:
        if override.is_interval_sweep():
            return _interval(override)
        if override.is_range_sweep() and not _sweep(override).shuffle:
            return _range(override)
        choices = [_choice(value) for value in override.sweep_iterator()]
        if any(choices.index(choice) != index for index, choice in enumerate(choices)):
            raise UserError(f"{override.input_line}: two of the choices are equal; remove one")
        return CategoricalDistribution(choices)
    except (ValueError, IndexError) as error:
        raise UserError(f"{override.input_line}: nothing to choose from ({first_line(error)})") from None


def point_overrides(point: Point) -> list[str]:
    """Overrides that set a point."""
    return [f"{name}={_text(value)}" for name, value in point.items()]


def default_point(space: Space, config: DictConfig | None) -> Point:
    """The configuration's own value on every axis; the first one where that is not among the choices."""
    config = config or OmegaConf.create({"hydra": {"runtime": {"choices": {}}}})
    choices = config.hydra.runtime.choices
    point: dict[str, Scalar] = {}
    for name, axis in space.axes.items():
        key = _PREFIX.sub("", name)
        value = choices[key] if key in choices else OmegaConf.select(config, key)
        internal = axis.to_internal_repr(value if _contains(axis, value) else _first(axis))
        point[name] = axis.to_external_repr(internal)
    return point


def _sweep(override: Override) -> RangeSweep:
    sweep = override.value()
    assert isinstance(sweep, RangeSweep)
    return sweep


def _range(override: Override) -> BaseDistribution:
    values = _sweep(override).range()
    log = "log" in _sweep(override).tags
    if log and abs(values.step) != 1:
        raise UserError(f"{override.input_line}: a logarithmic range must have step 1; or use an interval")
    if isinstance(values, range):
        if not values:
            raise ValueError("the range is empty")
        return IntDistribution(min(values[0], values[-1]), max(values[0], values[-1]), log, abs(values.step))
    if log:
        raise UserError(f"{override.input_line}: a logarithmic range must be of whole numbers")
    return _float_range(values)


def _float_range(values: FloatRange) -> BaseDistribution:
    """As an axis, without going through the values, of which there may be any number."""
    start, stop, step = map(Decimal, (values.start, values.stop, values.step))
    if not all(number.is_finite() for number in (start, stop, step)) or not step:
        raise ValueError("the ends and the step of a range must be finite, and the step not 0")
    count = math.ceil((stop - start) / step)
    if count < 1:
        raise ValueError("the range is empty")
    low, high = sorted((start, start + (count - 1) * step))
    return FloatDistribution(float(low), float(high), step=float(abs(step)))


def _interval(override: Override) -> BaseDistribution:
    sweep = override.value()
    assert isinstance(sweep, IntervalSweep)
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    assert low is not None and high is not None
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high - 1, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _choice(value: Any) -> Scalar:
    """A choice as an axis holds it: numbers, booleans and null unchanged, all else as text."""
    return value if value is None or isinstance(value, bool | int | float) else Transformer.str(value)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _contains(axis: BaseDistribution, value: Any) -> bool:
    if isinstance(axis, CategoricalDistribution):
        return any(value == choice and type(value) is type(choice) for choice in axis.choices)
    assert isinstance(axis, IntDistribution | FloatDistribution)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and axis._contains(axis.to_internal_repr(value))


def _first(axis: BaseDistribution) -> Scalar:
    if isinstance(axis, CategoricalDistribution):
        return axis.choices[0]
    assert isinstance(axis, IntDistribution | FloatDistribution)
    return axis.low
