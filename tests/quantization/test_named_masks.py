"""A name says the same of every network: its subject there, in a precision."""

import pytest

from speakerquant.architectures.units import Units
from speakerquant.errors import UserError
from speakerquant.quantization.named_masks import named_mask, swept_names

BLOCKS = Units({"conv": ("conv",), "conv_out": ("conv_out.a", "conv_out.b"), "last": ("last",)})
LAYERS = Units({name: (name,) for name in ("conv", "conv_out.a", "conv_out.b", "last")})
NAMED = {"proposal": ("conv_out", "last")}


@pytest.mark.parametrize(
    ("name", "units", "expected"),
    [
        ("none", BLOCKS, "fp32 fp32 fp32"),
        ("all", BLOCKS, "int8 int8 int8"),
        ("all_int4", BLOCKS, "int4 int4 int4"),
        ("all_fp32", BLOCKS, "fp32 fp32 fp32"),
        ("conv", BLOCKS, "int8 fp32 fp32"),
        ("conv_int2", BLOCKS, "int2 fp32 fp32"),
        ("conv_out", BLOCKS, "fp32 int8 fp32"),
        ("conv_out_int4", BLOCKS, "fp32 int4 fp32"),
        ("proposal", BLOCKS, "fp32 int8 int8"),
        ("proposal_fp16", BLOCKS, "fp32 fp16 fp16"),
        ("proposal", LAYERS, "fp32 int8 int8 int8"),
        ("conv_out", LAYERS, "fp32 int8 int8 fp32"),
        ("conv_out.b_int4", LAYERS, "fp32 fp32 int4 fp32"),
    ],
)
def test_a_name_is_a_subject_and_a_precision(name: str, units: Units, expected: str) -> None:
    assert " ".join(named_mask(name, units, NAMED).names.values()) == expected


@pytest.mark.parametrize("name", ["papper", "none_int8", "last.b", "int4", "_int4", ""])
def test_an_unknown_subject_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UserError) as caught:
        named_mask(name, BLOCKS, NAMED)
    said = str(caught.value)
    assert said.startswith(
        f"mask={name}: unknown mask; this network has none, all, conv, conv_out, last, proposal"
    )
    assert "\n" not in said


@pytest.mark.parametrize(("name", "precision"), [("all_int9", "int9"), ("conv_out_8bit", "8bit")])
def test_an_unknown_precision_is_refused_with_those_there_are(name: str, precision: str) -> None:
    with pytest.raises(UserError, match=rf"^mask={name}: unknown precision '{precision}'; valid are fp32, "):
        named_mask(name, BLOCKS, NAMED)


def test_a_sweep_goes_over_the_units_of_the_network() -> None:
    sweep = ("none", "*", "named", "all_int4", "*_int4")
    assert swept_names(sweep, BLOCKS, NAMED) == [
        *("none", "conv", "conv_out", "last", "proposal"),
        *("all_int4", "conv_int4", "conv_out_int4", "last_int4"),
    ]
    assert swept_names(("none", "*", "named"), LAYERS, {}) == ["none", *LAYERS]
    assert swept_names(("none", "*", "named"), BLOCKS, {"conv": ("conv",)}) == ["none", *BLOCKS]
