"""Masks say which layers are INT8, in one canonical way."""

import pytest

from speakerquant.errors import UserError
from speakerquant.model.ecapa_tdnn import EcapaTdnn, EcapaTdnnConfig
from speakerquant.model.units import Units, block_units, layer_units, quantizable_layers
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import Precision

UNITS = Units({"first": ("first",), "block": ("block.a", "block.b"), "last": ("last",)})


def test_units_that_are_not_named_stay_fp32() -> None:
    mask = Mask(UNITS, {"block": "int8"})
    assert list(mask.items()) == [
        ("first", Precision.FP32),
        ("block", Precision.INT8),
        ("last", Precision.FP32),
    ]
    assert mask.quantized_layers == {"block.a", "block.b"}


def test_equal_masks_are_equal_however_they_are_written() -> None:
    one = Mask(UNITS, {"last": "int8", "first": "fp32"})
    other = Mask(UNITS, {"last": Precision.INT8})
    assert one == other
    assert hash(one) == hash(other)
    assert one.key == other.key == "first=fp32,block=fp32,last=int8"
    assert one != Mask(UNITS, {"first": "int8"})


@pytest.mark.parametrize(
    ("precisions", "message"),
    [
        ({"frist": "int8"}, r"mask\.frist: unknown unit; this network has first, block, last"),
        ({"block": "int4"}, r"mask\.block: unknown precision 'int4'; valid are fp32, int8"),
    ],
    ids=["unit", "precision"],
)
def test_refuses_the_unknown(precisions: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Mask(UNITS, precisions)


def test_units_of_the_network_are_the_papers_rows_and_cover_every_layer() -> None:
    network = EcapaTdnn(EcapaTdnnConfig(channels=8))
    units = block_units(network)
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
    assert list(layer_units(network)) == layers
    assert Mask(units, dict.fromkeys(units, "int8")).quantized_layers == set(layers)
