"""Numbers that add up over units, where not every unit was measured at every rank."""

import numpy as np
import pytest

from speakerquant.forecasting.additive_number import AdditiveNumber, Ranks

ALONE: dict[Ranks, float] = {(2, 0, 0): 90.0, (0, 2, 0): 80.0, (0, 0, 2): 60.0}


def of(measured: dict[Ranks, float], *masks: Ranks) -> list[float]:
    return AdditiveNumber(100.0, measured).of(np.array(masks)).tolist()


def test_what_units_change_alone_adds_up() -> None:
    assert of(ALONE, (2, 2, 0), (2, 2, 2), (0, 0, 0)) == [70.0, 30.0, 100.0]


def test_at_other_ranks_all_units_change_the_share_that_masks_of_several_tell() -> None:
    assert of({**ALONE, (1, 1, 1): 72.0}, (1, 0, 0), (0, 1, 2)) == pytest.approx([96.0, 52.0])


def test_ranks_that_no_mask_tells_apart_have_the_same_share() -> None:
    """As of a unit with more precisions than the others."""
    measured = {(3, 0): 70.0, (1, 0): 76.0, (0, 2): 60.0, (2, 1): 51.0}
    assert of(measured, (2, 0), (0, 1)) == pytest.approx([79.0, 72.0])


def test_what_was_measured_alone_is_no_share() -> None:
    measured = {**ALONE, (0, 0, 1): 99.0, (1, 1, 1): 84.0}
    assert of(measured, (0, 0, 1), (1, 0, 0)) == pytest.approx([99.0, 95.0])


def test_the_lowest_rank_that_works_stands_for_that_which_does_not() -> None:
    measured = {(0, 2): 80.0, (1, 0): 95.0, (1, 1): 85.0}
    assert of(measured, (0, 1), (1, 2)) == pytest.approx([90.0, 75.0])
