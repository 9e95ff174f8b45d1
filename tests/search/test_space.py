"""Spaces of all kinds of axes."""

import math

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from speakerquant.search.space import Scalar, Space


@pytest.mark.parametrize(
    ("axis", "size"),
    [
        (CategoricalDistribution(("fp32", "int8", None)), 3),
        (IntDistribution(3, 9, step=2), 4),
        (IntDistribution(1, 100, log=True), 100),
        (FloatDistribution(0.0, 1.0, step=0.1), 11),
        (FloatDistribution(0.0, 0.3, step=0.1), 4),
        (FloatDistribution(99.9, 99.99, step=0.01), 10),
        (FloatDistribution(2.0, 2.0), 1),
        (FloatDistribution(0.0, 1.0), math.inf),
        (FloatDistribution(1e-3, 1.0, log=True), math.inf),
    ],
)
def test_unseen_points_until_there_are_none(axis: BaseDistribution, size: float) -> None:
    space = Space({"a": axis, "b": CategoricalDistribution((1, 2))})
    assert space.size == 2 * size
    seen: set[str] = set()
    for seed in range(int(min(space.size, 20))):
        point = space.random_unseen(seen, seed)
        assert point is not None
        assert axis._contains(axis.to_internal_repr(point["a"]))
        assert space.key(point) not in seen
        seen.add(space.key(point))
    if space.size == len(seen):
        assert space.random_unseen(seen, 0) is None


@pytest.mark.parametrize(
    ("axis", "one", "other", "same"),
    [
        (CategoricalDistribution((1, "1", None)), 1, "1", False),
        (CategoricalDistribution((1, "1", None)), "1", None, False),
        (IntDistribution(0, 9), 3, 3.0, True),
        (IntDistribution(0, 9), 3, 4, False),
        (FloatDistribution(0.0, 9.0), 3, 3.0, True),
        (FloatDistribution(0.0, 1.0, step=0.1), 0.1 + 0.2, 0.3, True),
        (FloatDistribution(0.0, 1.0, step=0.1), 5.5e-17, -0.0, True),
        (FloatDistribution(0.0, 1.0), 0.25, 0.2500001, False),
    ],
)
def test_keys_are_equal_where_optuna_sees_the_same_point(
    axis: BaseDistribution, one: Scalar, other: Scalar, same: bool
) -> None:
    space = Space({"a": axis})
    assert (space.key({"a": one}) == space.key({"a": other})) is same


def test_a_space_too_large_to_list_is_drawn_from() -> None:
    space = Space({f"mask.{index}": CategoricalDistribution(("fp32", "int8")) for index in range(38)})
    first, again, other = (space.random_unseen((), seed) for seed in (0, 0, 1))
    assert first == again != other
