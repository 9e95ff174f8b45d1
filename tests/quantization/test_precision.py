"""Precisions by name: registered ones, and those that a name makes from them."""

from typing import Any

import pytest

from speakerquant.errors import UserError
from speakerquant.quantization.precision import (
    INT4,
    INT8,
    FloatType,
    InputRange,
    Precision,
    WeightFormat,
    precision_of,
    registered,
)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("int8", WeightFormat(8, is_fitted=False)),
        ("int8_fitted", WeightFormat(8)),
        ("int8_dynamic", WeightFormat(8, is_fitted=False)),
        ("int4", WeightFormat(4, 64)),
        ("int4_g128", WeightFormat(4, 128)),
        ("int4_dynamic", WeightFormat(4, 64)),
        ("int4_dynamic_g128", WeightFormat(4, 128)),
        ("int2_g16", WeightFormat(2, 16)),
        ("int2_channel", WeightFormat(2)),
    ],
)
def test_groups_belong_to_the_precision(name: str, weights: WeightFormat) -> None:
    precision = precision_of(name)
    assert precision.name == name
    assert precision.weights == weights


def test_equal_precisions_have_one_name() -> None:
    assert precision_of("int4_g64") is INT4
    assert precision_of("int4_g128") == precision_of("int4_g128")
    assert len(registered()) == 8  # nothing is listed that nobody registered


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("int5", "unknown precision 'int5'; valid are fp32, fp16, int8, int8_fitted, int8_dynamic, int4, "),
        ("int4_128", "unknown precision 'int4_128'"),
        ("int4_g48", "precision 'int4_g48': groups of 48: give a power of two from 16 on"),
        ("int4_g8", "power of two from 16 on"),
        ("int4_dynamic_g32", "inputs are rounded 64 channels by 64"),
        ("int4_dynamic_channel", "inputs are rounded 64 channels by 64"),
        ("int8_g64", "unknown precision 'int8_g64'; the weights of int8 are not in groups"),
        ("fp32_channel", "the weights of fp32 are not in groups"),
    ],
)
def test_other_names_are_refused(name: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        precision_of(name)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ({"input_bits": 4}, "inputs are rounded to 8 bits or not at all"),
        ({"input_range": InputRange.recording}, "ranges are found for inputs that are rounded"),
        ({"weights": WeightFormat(8), "arithmetic": FloatType.float16}, "beside float32 only"),
        ({"input_bits": 8, "arithmetic": FloatType.float16}, "beside float32 only"),
        ({"weights": WeightFormat(4, 64, is_fitted=False)}, "scales of groups do not follow from ranges"),
    ],
    ids=["input bits", "range without bits", "weights in FP16", "inputs in FP16", "groups from ranges"],
)
def test_what_cannot_be_simulated_and_exported_is_refused(description: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"precision own: .*{problem}"):
        Precision("own", **description)


def test_scales_of_int8_follow_from_ranges() -> None:
    assert precision_of("int4_channel").has_fitted_scales
    assert not INT8.has_fitted_scales


def test_integers_of_int8_reach_as_far_below_zero_as_above() -> None:
    fitted = precision_of("int8_fitted")
    bounds = [fitted.within(bits).weights.bounds for bits in (8, 7)]  # type: ignore[union-attr]
    assert bounds == [(-127, 127), (-63, 63)]
    assert INT4.within(7) is INT4
