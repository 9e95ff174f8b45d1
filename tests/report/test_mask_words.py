"""What masks are called in tables, pictures and MLflow."""

import pytest

from speakerquant.report.mask_words import mask_name

from .conftest import UNITS, MakeMask

LAYERS = [f"se_res2block{block}.layer{index}" for block in (1, 2, 3) for index in range(12)]


@pytest.mark.parametrize(
    ("quantized", "name"),
    [
        ((), "none"),
        (UNITS, "all"),
        (("se_res2block2",), "se_res2block2"),
        (UNITS[:2], "input_conv, se_res2block1"),
        (UNITS[1:], "all but input_conv"),
        (UNITS[:1] + UNITS[2:6], "all but se_res2block1, embedding_linear"),
    ],
)
def test_masks_are_named_by_their_int8_units(
    make_mask: MakeMask, quantized: tuple[str, ...], name: str
) -> None:
    assert mask_name(make_mask(*quantized)) == name


@pytest.mark.parametrize(
    ("quantized", "others", "name"),
    [
        ((), dict.fromkeys(UNITS, "fp16"), "all fp16"),
        ((), {"input_conv": "fp16"}, "fp16: input_conv"),
        ((), dict.fromkeys(UNITS[1:], "fp16"), "fp16: all but input_conv"),
        (
            ("se_res2block1", "aggregation_conv"),
            {"embedding_linear": "fp16"},
            "int8: se_res2block1, aggregation_conv; fp16: embedding_linear",
        ),
    ],
)
def test_other_precisions_are_named(
    make_mask: MakeMask, quantized: tuple[str, ...], others: dict[str, str], name: str
) -> None:
    assert mask_name(make_mask(*quantized, **others)) == name


def test_a_mask_of_many_layers_stays_short_and_says_how_many() -> None:
    def name(count: int) -> str:
        return mask_name({layer: "int8" if layer in LAYERS[:count] else "fp32" for layer in LAYERS})

    assert name(5) == ", ".join(LAYERS[:5])
    assert name(12) == "se_res2block1.layer0, se_res2block1.layer1 and 10 more"
    assert name(24) == "all but se_res2block3.layer0, se_res2block3.layer1 and 10 more"
    assert len({name(count) for count in range(len(LAYERS) + 1)}) == len(LAYERS) + 1
