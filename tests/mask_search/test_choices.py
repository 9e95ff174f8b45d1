"""What a search can choose."""

from optuna.distributions import CategoricalDistribution
from torch import nn

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.mask_search.choices import Choices, stored_differently
from speakerquant.quantization.precision import precision_of
from speakerquant.search.space import Space

NAMES = ("int8", "int4", "int4_dynamic", "int4_g128", "int4_channel", "int2", "int2_g128")


def test_a_unit_chooses_from_what_stores_its_weights_differently() -> None:
    precisions = [precision_of(name) for name in NAMES]

    def chosen(*layers: nn.Conv1d | nn.Linear) -> list[str]:
        return [str(each) for each in stored_differently(precisions, [*map(LayerGeometry.of, layers)])]

    assert chosen(nn.Linear(256, 8)) == [*NAMES]
    assert chosen(nn.Conv1d(80, 8, 5)) == ["int8", "int4", "int4_dynamic", "int4_channel", "int2"], (
        "80 divides by 16 only"
    )
    assert chosen(nn.Conv1d(80, 8, 5), nn.Linear(256, 8)) == [*NAMES]
    assert chosen(nn.Conv1d(8, 8, 5, groups=8)) == ["int8", "int4", "int4_dynamic", "int2"], (
        "one scale for each channel"
    )


def test_of_the_same_bits_smaller_groups_are_higher() -> None:
    space = Space({"mask.a": CategoricalDistribution(("int2_channel", "int4_g128", "int2", "int4", "fp32"))})
    [ordered] = Choices(space, {}).precisions.values()
    assert [*map(str, ordered)] == ["fp32", "int4", "int4_g128", "int2", "int2_channel"]


def test_points_write_precisions_as_the_axis_does() -> None:
    space = Space({"mask.a": CategoricalDistribution(("int8", "int4_g64"))})
    choices = Choices(space, {})
    assert choices.alone() == [{"mask.a": "int4_g64"}]
    assert choices.ranks_of({"mask.a": "int4_g64"}) == (1,)
