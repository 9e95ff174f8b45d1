"""Masks say which layer runs in which precision, in one canonical way."""

import pytest

from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn
from speakerquant.architectures.layers import quantizable_layers
from speakerquant.architectures.units import Granularity, Units, UnreachedLayer
from speakerquant.errors import UserError
from speakerquant.quantization.mask import Mask, baseline_mask
from speakerquant.quantization.precision import FP16, FP32, INT8

UNITS = Units(
    {"first": ("first",), "block": ("block.a", "block.b"), "last": ("last",)},
    {"memory": UnreachedLayer("LSTM", 100)},
)
LAYERS = Units({name: (name,) for name in ("first", "block1.a", "block1.b.0", "block2.a", "block3.a")})


def test_units_that_are_not_named_stay_in_the_baseline() -> None:
    mask = Mask(UNITS, {"block": "int8"})
    assert list(mask.items()) == [("first", FP32), ("block", INT8), ("last", FP32)]
    assert mask.layers == {"first": FP32, "block.a": INT8, "block.b": INT8, "last": FP32}
    assert not mask.is_baseline
    assert baseline_mask(UNITS).is_baseline


def test_equal_masks_are_equal_however_they_are_written() -> None:
    one = Mask(UNITS, {"last": "int8", "first": "fp32"})
    other = Mask(UNITS, {"last": INT8})
    assert one == other == Mask(UNITS, {"l*": INT8})
    assert hash(one) == hash(other)
    assert one.key == other.key == "first=fp32,block=fp32,last=int8"
    assert one != Mask(UNITS, {"first": "int8"})


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"*": "int8", "block[23]*": "fp32"}, "int8 int8 int8 fp32 fp32"),
        ({"*": "int8", "block[23]": "fp32"}, "int8 int8 int8 fp32 fp32"),
        ({"block1": "int8"}, "fp32 int8 int8 fp32 fp32"),
        ({"block1.b": "int8"}, "fp32 fp32 int8 fp32 fp32"),
        ({"block?.a": "int8", "*": "fp16"}, "fp16 fp16 fp16 fp16 fp16"),
        ({"block1.a": "int8", "*": "fp16"}, "fp16 int8 fp16 fp16 fp16"),
        ({"block1.a": "int8", "block1": "fp16"}, "fp32 int8 fp16 fp32 fp32"),
    ],
    ids=str,
)
def test_patterns_apply_in_their_order_then_modules_then_parts_and_the_last_decides(
    entries: dict[str, str], expected: str
) -> None:
    assert " ".join(Mask(LAYERS, entries).names.values()) == expected


def test_what_nothing_fits_stays_as_in_the_mask_that_it_departs_from() -> None:
    base = Mask(LAYERS, {"*": "int8", "first": "fp16"})
    mask = Mask(LAYERS, {"block1": "int4", "block2*": "fp32"}, base)
    assert " ".join(mask.names.values()) == "fp16 int4 int4 fp32 int8"


@pytest.mark.parametrize(
    ("precisions", "message"),
    [
        ({"frist": "int8"}, r"mask\.frist: unknown unit; this network has first, block, last"),
        ({"b[12]": "int8"}, r"mask\.b\[12\]: unknown unit; this network has first, block, last"),
        (
            {"mem*": "int8"},
            r"mask\.mem\*: memory is of a kind that cannot be quantized \(LSTM\); .* has first",
        ),
        ({"block": "int5"}, r"mask\.block: unknown precision 'int5'; valid are fp32, fp16, int8"),
    ],
    ids=["unit", "pattern", "unreached", "precision"],
)
def test_refuses_the_unknown(precisions: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Mask(UNITS, precisions)


def test_units_of_the_network_are_the_papers_rows_and_cover_every_layer() -> None:
    network = EcapaTdnn(EcapaTdnnConfig(channels=8))
    units = network.units()
    assert list(units) == [
        "input_conv",
        "se_res2block1",
        "se_res2block2",
        "se_res2block3",
        "aggregation_conv",
        "attentive_pooling",
        "embedding_linear",
    ]
    layers = list(quantizable_layers(network))
    assert [layer for unit in units.values() for layer in unit] == layers
    assert list(network.units(Granularity.layer)) == layers
    mask = Mask(units, dict.fromkeys(units, "int8"))
    assert mask.layers == dict.fromkeys(layers, INT8)
    assert FP16 not in mask.values()
