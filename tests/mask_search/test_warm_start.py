"""Which masks a search begins with."""

from collections.abc import Mapping

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from speakerquant.mask_search.choices import Choices
from speakerquant.mask_search.warm_start import MaskWarmStart
from speakerquant.search.goals import Goals
from speakerquant.search.history import History
from speakerquant.search.space import Point, Space

GOALS = Goals({"cost": "minimize"})
LAYERS = ("se_res2block1.conv_in", "se_res2block1.res2_conv.convs.0", "aggregation_conv")


def space_of(choices: Mapping[str, tuple[str, ...]], **others: BaseDistribution) -> Space:
    axes = {f"mask.{unit}": CategoricalDistribution(names) for unit, names in choices.items()}
    return Space({**axes, **others})


def completed(space: Space, point: Point, cost: float) -> FrozenTrial:
    return create_trial(params=dict(point), distributions=dict(space.axes), value=cost)


def precisions(points: list[Point]) -> list[str]:
    """The precisions of every point, in the order of the axes."""
    return [" ".join(str(value) for value in point.values()) for point in points]


def first_points(space: Space, **defaults: int) -> list[str]:
    points, more = MaskWarmStart(Choices(space, defaults), GOALS).known(History(space, []))
    assert more == bool(points), "the greedy points wait for these"
    return precisions(list(points))


def test_units_are_all_in_their_highest_then_all_lowered_then_one_by_one() -> None:
    space = space_of(dict.fromkeys(LAYERS, ("fp32", "int8")))
    assert first_points(space) == [
        "fp32 fp32 fp32",
        "int8 int8 int8",
        "int8 fp32 fp32",
        "fp32 int8 fp32",
        "fp32 fp32 int8",
    ]


def test_every_lower_precision_is_tried_on_all_units_and_on_each_alone() -> None:
    space = space_of({"a": ("int8", "fp32", "fp16"), "b": ("fp32", "fp16"), "c": ("fp32", "int8")})
    assert first_points(space) == [
        "fp32 fp32 fp32",
        "fp16 fp16 int8",
        "int8 fp16 int8",
        "fp16 fp32 fp32",
        "int8 fp32 fp32",
        "fp32 fp16 fp32",
        "fp32 fp32 int8",
    ]


def test_the_highest_precision_need_not_be_the_baseline() -> None:
    space = space_of({"a": ("int2", "int4", "int8"), "b": ("int4", "int8")})
    assert first_points(space) == [
        "int8 int8",
        "int4 int4",
        "int2 int4",
        "int4 int8",
        "int2 int8",
        "int8 int4",
    ]


def test_other_axes_keep_their_default() -> None:
    space = space_of({"a": ("fp32", "int8")}, percentile=IntDistribution(90, 99))
    assert set(first_points(space, percentile=95)) == {"fp32 95", "int8 95"}


@pytest.mark.parametrize(
    "choices",
    [("fp32",), ("fp32", "int9"), ("fp32", None)],
    ids=lambda choices: str(choices),
)
def test_an_axis_without_a_choice_between_precisions_is_no_unit(choices: tuple[str, ...]) -> None:
    space = space_of({"a": choices})
    assert first_points(space) == []


def test_units_are_then_lowered_the_best_first() -> None:
    space = space_of(dict.fromkeys(LAYERS, ("fp32", "int8")))
    warm_start = MaskWarmStart(Choices(space, {}), GOALS)
    points, _ = warm_start.known(History(space, []))
    costs = [0.0, 6.0, 3.0, 1.0, 2.0]
    trials = [completed(space, point, cost) for point, cost in zip(points, costs, strict=True)]
    assert warm_start.known(History(space, trials[:-1])) == (points, True)
    further, more = warm_start.known(History(space, trials))
    assert precisions(list(further[len(points) :])) == ["fp32 int8 int8"]
    assert not more


def test_a_unit_is_lowered_step_by_step() -> None:
    space = space_of({"a": ("int8", "int4", "int2"), "b": ("int8", "int4", "int2")})
    warm_start = MaskWarmStart(Choices(space, {}), GOALS)
    points, _ = warm_start.known(History(space, []))
    costs = {"int8 int8": 0.0, "int4 int8": 1.0, "int2 int8": 9.0, "int8 int4": 2.0, "int8 int2": 3.0}
    trials = [
        completed(space, point, costs.get(name, 20.0))
        for point, name in zip(points, precisions(list(points)), strict=True)
    ]
    further, _ = warm_start.known(History(space, trials))
    assert precisions(list(further[len(points) :])) == ["int4 int4", "int4 int2"]


def test_a_unit_that_failed_alone_is_lowered_last() -> None:
    space = space_of(dict.fromkeys(LAYERS, ("fp32", "int8")))
    warm_start = MaskWarmStart(Choices(space, {}), GOALS)
    points, _ = warm_start.known(History(space, []))
    trials = [
        completed(space, point, cost) for point, cost in zip(points, [0.0, 6.0, 3.0, 1.0, 2.0], strict=True)
    ]
    trials[3].state, trials[3].values = TrialState.FAIL, None
    further, _ = warm_start.known(History(space, trials))
    assert precisions(list(further[len(points) :])) == ["int8 fp32 int8"]
