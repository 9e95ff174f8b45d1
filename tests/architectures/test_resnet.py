"""ResNet: the shapes that its settings give."""

import pytest
import torch

from speakerquant.architectures.resnet.config import ResNetConfig
from speakerquant.architectures.resnet.network import ResNet
from speakerquant.errors import UserError


@pytest.mark.parametrize(
    ("settings", "units"),
    [
        ({}, ("input_conv", "stage1", "stage2", "stage3", "stage4", "embedding_linear")),
        (
            {"bottleneck": True, "two_embedding_layers": True},
            (
                *("input_conv", "stage1", "stage2", "stage3", "stage4", "embedding_linear"),
                "second_embedding_linear",
            ),
        ),
    ],
)
def test_units_and_fewest_frames(settings: dict, units: tuple[str, ...]) -> None:
    network = ResNet(ResNetConfig(n_mels=16, channels=4, num_blocks=[1, 2, 1, 1], **settings)).eval()
    assert tuple(network.units()) == units
    for frames in (network.min_frames, network.min_frames + 8):
        assert network(torch.randn(1, 16, frames)).isfinite().all()
    with pytest.warns(UserWarning, match="degrees of freedom"):
        assert not network(torch.randn(1, 16, network.min_frames - 1)).isfinite().all()


def test_parameters_are_those_of_resnet34() -> None:
    assert sum(parameter.numel() for parameter in ResNet(ResNetConfig()).parameters()) == 6_634_336


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_mels": 81}, "n_mels=81: must be a multiple of 8"),
        ({"channels": 0}, "channels=0: must be at least 1"),
        ({"num_blocks": [3, 4, 6]}, "give one for each of the four stages"),
        ({"num_blocks": [3, 4, 6, 0]}, "give one for each of the four stages"),
        ({"variance_floor": -1.0}, "variance_floor=-1.0: must be above 0"),
    ],
)
def test_settings_without_a_network_are_named(settings: dict, said: str) -> None:
    with pytest.raises(UserError, match=r"model\.architecture") as caught:
        ResNetConfig(**settings)
    assert said in str(caught.value)
