"""What no other point beats in one coordinate without losing in the other."""

import math

import numpy as np
import pytest

from speakerquant.search.pareto import pareto_front


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(2, 1), (1, 2), (2, 1), (1, 2)], [True, True, False, False]),
        ([(2, math.nan), (1, math.nan), (3, 1)], [False, True, True]),
        ([(math.nan, 1), (1, 2), (math.nan, 3)], [True, True, False]),
        ([(math.nan, math.nan), (1, 1)], [False, True]),
        (np.empty((0, 2)), []),
    ],
)
def test_the_first_of_equal_points_stands_for_them_and_nan_is_worse_than_any_number(
    points: list[tuple[float, float]], front: list[bool]
) -> None:
    assert pareto_front(points).tolist() == front
