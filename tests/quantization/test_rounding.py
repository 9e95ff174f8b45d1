"""Weights of few bits: what the integers stand for, in groups, to the nearest and by GPTQ."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Subject, speechlike
from torch import Tensor, nn

from speakerquant.architectures.layers import LayerGeometry
from speakerquant.cache import Cache
from speakerquant.errors import UserError
from speakerquant.measuring.check import fidelity
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.hessians import gather_hessians, load_hessians, save_hessians
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import INT2, INT4, Precision, WeightFormat
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding
from speakerquant.quantization.rounding_method import RoundingMethod
from speakerquant.quantization.simulate import simulate


def conv1d(weight: np.ndarray) -> LayerGeometry:
    """Of a convolution with this weight."""
    return LayerGeometry.of(nn.Conv1d(weight.shape[1], weight.shape[0], weight.shape[2]))


def linear(weight: np.ndarray) -> LayerGeometry:
    """Of a linear layer with this weight."""
    return LayerGeometry.of(nn.Linear(weight.shape[1], weight.shape[0]))


def test_integers_stand_for_the_weights_within_half_a_step() -> None:
    """Of a layer whose groups hold nothing to clip."""
    weight = np.random.default_rng(0).choice([-7, -3, 0, 2, 7], (4, 64, 3)).astype(np.float32)
    integers = Rounding().integers("layer", weight, conv1d(weight), WeightFormat(4, 32))
    assert integers.codes.shape == weight.shape and integers.codes.dtype == np.int8
    assert integers.scales.shape == (4, 2, 3)
    np.testing.assert_allclose(integers.values, weight, atol=0.3)


@pytest.mark.parametrize(("bits", "lowest", "highest"), [(4, -8, 7), (2, -2, 1)])
def test_integers_have_their_bits(bits: int, lowest: int, highest: int) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 128)).astype(np.float32)
    codes = Rounding().integers("layer", weight, linear(weight), WeightFormat(bits, 64)).codes
    assert (codes.min(), codes.max()) == (lowest, highest)


@pytest.mark.parametrize("side", [1, -1])
def test_integers_reach_further_on_the_side_where_weights_do(side: int) -> None:
    weight = side * np.random.default_rng(0).choice([-2, -1, 0, 1], (4, 64)).astype(np.float32)
    integers = Rounding().integers("layer", weight, linear(weight), WeightFormat(2, 64))
    np.testing.assert_allclose(integers.values, weight, atol=0.1)


@pytest.mark.parametrize(
    ("channels", "group_size", "length"),
    [(80, 64, 16), (96, 64, 32), (64, 64, 64), (24, 64, None), (1, 64, None), (128, None, None)],
)
def test_groups_divide_the_channels(channels: int, group_size: int | None, length: int | None) -> None:
    weight = np.ones((2, channels, 3), np.float32)
    integers = Rounding().integers("layer", weight, conv1d(weight), WeightFormat(4, group_size))
    assert integers.group_length == length
    assert integers.scales.shape == ((2,) if length is None else (2, channels // length, 3))


@pytest.mark.parametrize("precision", [INT4, INT2], ids=str)
def test_each_way_of_rounding_loses_less_than_the_one_before(small: Subject, precision: Precision) -> None:
    """The nearest integer, GPTQ, and coordinate descent after it."""
    hessians = gather_hessians(small.network, map(torch.from_numpy, speechlike(6, seed=2)))
    others = speechlike(6, seed=3)
    mask = Mask(small.network.units(), {"*": precision})
    reference = embed_with_network(small.network, others)
    agreements = [
        fidelity(
            embed_with_network(simulate(small.network, mask, small.table, 8, rounding), others), reference
        )
        for rounding in (Rounding(method, lambda: hessians) for method in RoundingMethod)
    ]
    assert agreements == sorted(agreements) and agreements[-1] < 1


@pytest.mark.parametrize("method", [RoundingMethod.gptq, RoundingMethod.descent])
def test_few_inputs_are_trusted_as_far_as_others_bear_them_out(method: RoundingMethod) -> None:
    """Of fewer inputs than columns, rounding loses more on fresh ones if held-out ones are not asked."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(64, 32, bias=False)
    torch.nn.init.normal_(layer.weight, generator=generator)
    mixing = torch.randn(64, 64, generator=generator)

    def inputs(number: int) -> Tensor:
        return torch.randn(number, 64, generator=generator) @ mixing

    seen, fresh = inputs(40), inputs(4000)
    asked = gather_hessians(nn.Sequential(layer), seen[:, None])["0"]
    unasked = np.stack([asked.sum(axis=0), np.zeros_like(asked[0])])
    losses = []
    for hessian in (asked, unasked):
        rounding = Rounding(method, lambda: {"0": hessian})  # noqa: B023
        weight = layer.weight.detach().numpy()
        rounded = rounding.integers("0", weight, LayerGeometry.of(layer), WeightFormat(2, 64)).values
        losses.append((fresh @ torch.from_numpy(rounded - weight).T).square().sum().item())
    assert losses[0] < 0.9 * losses[1]


@pytest.mark.parametrize("method", [RoundingMethod.gptq, RoundingMethod.descent])
def test_rounding_knows_no_scale_of_activations_whatever_is_always_zero(method: RoundingMethod) -> None:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((16, 64)).astype(np.float32)
    inputs = generator.standard_normal((2, 300, 64)) @ generator.standard_normal((64, 64))
    inputs[..., ::2] = 0
    hessian = (inputs.mT @ inputs)[:, None].astype(np.float32)
    loud, quiet = (
        Rounding(method, lambda: {"layer": factor * hessian}).integers(  # noqa: B023
            "layer", weight, linear(weight), WeightFormat(2, 64)
        )
        for factor in (1, 2.0**-20)  # a power of four leaves all digits
    )
    np.testing.assert_array_equal(quiet.values, loud.values)


@pytest.mark.parametrize("stored", [WeightFormat(2, 16), WeightFormat(4, None)], ids=str)
@pytest.mark.parametrize("method", [RoundingMethod.gptq, RoundingMethod.descent])
def test_groups_of_channels_are_rounded_as_layers_of_their_own(
    method: RoundingMethod, stored: WeightFormat
) -> None:
    torch.manual_seed(0)
    grouped = nn.Conv1d(96, 24, 3, groups=3)
    inputs = torch.randn(3, 200, 96) @ torch.randn(3, 96, 96)
    hessian = torch.stack([inputs.mT @ inputs, torch.zeros(3, 96, 96)]).numpy()
    weight = grouped.weight.detach().numpy()
    together = Rounding(method, lambda: {"layer": hessian})
    found = together.integers("layer", weight, LayerGeometry.of(grouped), stored).values
    for group in range(3):
        alone = Rounding(method, lambda: {"layer": hessian[:, [group]]})  # noqa: B023
        part = weight[8 * group : 8 * group + 8]
        expected = alone.integers("layer", part, conv1d(part), stored).values
        # Scales go on to move until the last group has come to rest.
        np.testing.assert_allclose(found[8 * group : 8 * group + 8], expected, rtol=0.02)


def test_hessians_hold_out_every_fifth_recording() -> None:
    layer = nn.Conv1d(3, 2, 1, bias=False)
    recordings = [torch.randn(3, 400) for _ in range(10)]
    [(fitted, held_out)] = gather_hessians(nn.Sequential(layer), recordings).values()
    seen = torch.stack([recordings[4], recordings[9]])
    np.testing.assert_allclose(held_out[0], (seen @ seen.transpose(1, 2)).sum(dim=0), rtol=1e-4)
    assert np.trace(fitted[0]) > np.trace(held_out[0])


def test_hessians_are_those_of_what_every_tap_sees() -> None:
    """The error of a layer's output is the product of its weights' error with the Hessian."""
    torch.manual_seed(0)
    layer = nn.Conv1d(6, 5, 3, dilation=2, padding=2, bias=False)
    recordings = [torch.randn(6, 40) for _ in range(3)]
    [hessian] = gather_hessians(nn.Sequential(layer), recordings).values()
    outputs = torch.cat([layer(recording[None])[0] for recording in recordings], dim=1)
    columns = layer.weight.detach().permute(0, 2, 1).flatten(1).double().numpy()
    expected = (columns @ hessian.sum(axis=0)[0] * columns).sum(axis=1)
    np.testing.assert_allclose(outputs.detach().square().sum(dim=1), expected, rtol=1e-4)


def test_hessians_are_kept_whole(small: Subject, tmp_path: Path) -> None:
    hessians = gather_hessians(small.network, [torch.from_numpy(small.recordings[0])])
    save_hessians(hessians, tmp_path / "hessians.safetensors")
    for layer, kept in load_hessians(tmp_path / "hessians.safetensors").items():
        np.testing.assert_array_equal(kept, hessians[layer])
    (tmp_path / "hessians.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a file of Hessians"):
        load_hessians(tmp_path / "hessians.safetensors")


def test_what_says_nothing_is_refused(small: Subject) -> None:
    with pytest.raises(UserError, match=r"rounding: there are no recordings"):
        gather_hessians(small.network, [])
    with pytest.raises(UserError, match=r"rounding: the input of 0 is always zero"):
        gather_hessians(nn.Sequential(nn.Conv1d(4, 4, 1)), [torch.zeros(4, 20)])
    with pytest.raises(UserError, match=r"rounding=descent: no Hessian that fits input_conv"):
        mask = Mask(small.network.units(), {"input_conv": INT4})
        foreign = {"input_conv": np.eye(7, dtype=np.float32)[None]}
        rounding = Rounding(RoundingMethod.descent, lambda: foreign)
        simulate(small.network, mask, CalibrationTable("max", {}, {}), 8, rounding)


def test_rounded_weights_are_made_once(small: Subject, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 128)).astype(np.float32)
    made = Rounding(cache=Cache(tmp_path), identity=lambda: "network").integers(
        "layer", weight, linear(weight), WeightFormat(4, 64)
    )
    again = Rounding(cache=Cache(tmp_path), identity=lambda: "network").integers(
        "layer", 0 * weight, linear(weight), WeightFormat(4, 64)
    )
    np.testing.assert_array_equal(again.values, made.values)


@pytest.mark.parametrize(
    "change",
    [
        {"identity": "another network, or other Hessians"},
        {"method": RoundingMethod.descent},
        {"layer": "another"},
        {"bits": 2},
        {"group_size": 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_determines_integers_determines_their_key(change: dict[str, Any], tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    weight = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    hessian = np.stack([np.eye(64, dtype=np.float32)[None]] * 2)

    def make(
        identity: str = "network and Hessians",
        method: RoundingMethod = RoundingMethod.gptq,
        layer: str = "layer",
        bits: int = 4,
        group_size: int = 64,
    ) -> int:
        rounding = Rounding(method, lambda: {layer: hessian}, cache, lambda: identity)
        rounding.integers(layer, weight, linear(weight), WeightFormat(bits, group_size))
        return len([*cache.entries()])

    assert make() == make() == 1
    assert make(**change) == 2
