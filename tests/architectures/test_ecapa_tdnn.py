"""The network against the paper's description of it."""

import pytest
import torch
from torch import nn

from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.network import AttentiveStatisticsPooling, EcapaTdnn
from speakerquant.architectures.units import Granularity
from speakerquant.errors import UserError

PAPER_UNITS = [
    "input_conv",
    "se_res2block1",
    "se_res2block2",
    "se_res2block3",
    "aggregation_conv",
    "attentive_pooling",
    "embedding_linear",
]


@pytest.fixture(scope="module")
def network() -> EcapaTdnn:
    torch.manual_seed(0)
    return EcapaTdnn(EcapaTdnnConfig(channels=64)).eval()


def test_parameters_at_c1024_are_the_papers_megabytes() -> None:
    network = EcapaTdnn(EcapaTdnnConfig())
    assert sum(parameter.numel() * 4 for parameter in network.parameters()) / 1e6 == pytest.approx(
        61.9, abs=0.2
    )


@pytest.mark.parametrize("frames", [1, 7, 300])
def test_any_length_gives_one_embedding(network: EcapaTdnn, frames: int) -> None:
    embeddings = network(torch.randn(2, 80, frames))
    assert embeddings.shape == (2, 192)
    assert embeddings.isfinite().all()


@pytest.mark.parametrize(
    ("difference", "fewest"), [({}, 1), ({"padding": "reflect"}, 5), ({"unbiased_context": True}, 2)], ids=str
)
def test_the_fewest_frames_give_an_embedding(difference: dict, fewest: int) -> None:
    network = EcapaTdnn(EcapaTdnnConfig(channels=64, **difference)).eval()
    assert network.min_frames == fewest
    assert network(torch.randn(1, 80, fewest)).isfinite().all()


def test_recordings_of_a_batch_do_not_mix(network: EcapaTdnn) -> None:
    features = torch.randn(3, 80, 50)
    together = network(features)
    alone = torch.cat([network(item[None]) for item in features])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_each_block_is_fed_with_the_sum_of_what_came_before(network: EcapaTdnn) -> None:
    seen: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}
    hooks = []
    for name in ("input_norm", "se_res2block1", "se_res2block2", "se_res2block3"):

        def remember(
            _: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor, name: str = name
        ) -> None:
            seen[name], outputs[name] = inputs[0], output

        hooks.append(network.get_submodule(name).register_forward_hook(remember))
    network(torch.randn(1, 80, 40))
    for hook in hooks:
        hook.remove()
    first, second = outputs["input_norm"], outputs["input_norm"] + outputs["se_res2block1"]
    torch.testing.assert_close(seen["se_res2block1"], first)
    torch.testing.assert_close(seen["se_res2block2"], second)
    torch.testing.assert_close(seen["se_res2block3"], second + outputs["se_res2block2"])


def test_pooling_with_even_attention_is_mean_and_deviation() -> None:
    pooling = AttentiveStatisticsPooling(EcapaTdnnConfig(aggregation_channels=8, attention_channels=4)).eval()
    nn.init.zeros_(pooling.attention.weight)
    x = torch.randn(2, 8, 100)
    expected = torch.cat([x.mean(2), x.var(2, correction=0).sqrt()], dim=1)
    torch.testing.assert_close(pooling(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "said"), [({"channels": 100}, "channels=100"), ({"dilations": [2, 3]}, "dilations")]
)
def test_impossible_shapes_are_named(shape, said: str) -> None:
    with pytest.raises(UserError, match=said):
        EcapaTdnnConfig(**shape)


def test_units_are_the_rows_of_the_papers_table(network: EcapaTdnn) -> None:
    units = network.units()
    assert list(units) == PAPER_UNITS
    assert len(units["se_res2block2"]) == 11


def test_the_architectures_masks_are_of_units_that_the_network_has(network: EcapaTdnn) -> None:
    for quantized in ECAPA_TDNN.named_masks.values():
        assert set(quantized) <= set(network.units())


def test_the_papers_mask_spares_the_second_and_third_block() -> None:
    assert {*PAPER_UNITS} - {*ECAPA_TDNN.named_masks["paper"]} == {"se_res2block2", "se_res2block3"}


def test_both_granularities_own_every_layer_once(network: EcapaTdnn) -> None:
    layers = {name for name, module in network.named_modules() if isinstance(module, nn.Conv1d | nn.Linear)}
    for granularity in Granularity:
        units = network.units(granularity)
        owned = [layer for unit in units.values() for layer in unit]
        assert sorted(owned) == sorted(layers)
    assert len(network.units(Granularity.layer)) == 38
