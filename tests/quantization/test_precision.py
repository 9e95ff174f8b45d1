"""Precisions by name: registered ones, and those that a name makes from them."""

import pytest

from speakerquant.errors import UserError
from speakerquant.quantization.precision import INT4, INT8, WeightFormat, precision_of, registered


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("int8", WeightFormat(8)),
        ("int4", WeightFormat(4, 64)),
        ("int4_g128", WeightFormat(4, 128)),
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
    assert len(registered()) == 5  # nothing is listed that nobody registered


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("int5", "unknown precision 'int5'; valid are fp32, fp16, int8, int4, int2"),
        ("int4_128", "unknown precision 'int4_128'"),
        ("int4_g48", "precision 'int4_g48': groups of 48: give a power of two from 16 on"),
        ("int4_g8", "power of two from 16 on"),
        ("int8_g64", "unknown precision 'int8_g64'; the weights of int8 are not in groups"),
        ("fp32_channel", "the weights of fp32 are not in groups"),
    ],
)
def test_other_names_are_refused(name: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        precision_of(name)
    assert problem in str(caught.value)


def test_only_weights_without_rounded_inputs_have_fitted_scales() -> None:
    assert precision_of("int4_channel").has_fitted_scales
    assert not INT8.has_fitted_scales
