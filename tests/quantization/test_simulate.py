"""The simulation quantizes what the mask says and nothing else."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from conftest import Subject
from torch import nn

from speakerquant.architectures.layers import quantizable_layers
from speakerquant.architectures.units import Units
from speakerquant.errors import UserError
from speakerquant.measuring.check import Agreement
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import INT8
from speakerquant.quantization.quantizers import insert_quantizers, quantized_layers
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.simulate import simulate


def test_no_int8_no_change(small: Subject) -> None:
    features = torch.from_numpy(small.recordings[0])[None]
    simulated = simulate(small.network, _mask(small, {}), small.table)
    with torch.inference_mode():
        torch.testing.assert_close(simulated(features), small.network(features), rtol=0, atol=0)


@pytest.mark.parametrize(("weight_bits", "largest"), [(8, 127), (7, 63)])
def test_int8_layers_see_rounded_inputs_and_weights(small: Subject, weight_bits: int, largest: int) -> None:
    mask = _mask(small, {"aggregation_conv": "int8"})
    simulated = simulate(small.network, mask, small.table, weight_bits)
    layer, plain = simulated.aggregation_conv, small.network.aggregation_conv
    scale = torch.from_numpy(small.table.weight_ranges["aggregation_conv"])[:, None, None] / largest
    weight_steps = layer.weight / scale
    assert weight_steps.abs().max().item() == pytest.approx(largest, abs=1e-3)
    torch.testing.assert_close(weight_steps, (plain.weight / scale).round(), rtol=0, atol=1e-3)
    input_scale = small.table.input_ranges["aggregation_conv"] / 127
    inputs = torch.linspace(-1.5, 1.5, 999) * 127 * input_scale
    seen = _seen_by(layer, inputs.repeat(plain.in_channels, 1)[None])
    torch.testing.assert_close(
        seen[0, 0] / input_scale, (inputs / input_scale).round().clamp(-128, 127), rtol=0, atol=1e-3
    )


def test_ranges_found_at_run_time_are_those_of_each_recording(small: Subject) -> None:
    layer = simulate(
        small.network, _mask(small, {"aggregation_conv": "int8_dynamic"}), small.table
    ).aggregation_conv
    loud = torch.linspace(-1, 3, 512).repeat(layer.in_channels, 1)
    constant = torch.full_like(loud, 5.0)
    seen = _seen_by(layer, torch.stack([loud, loud / 100, -constant, 0 * loud]))
    step = 4 / 255  # from -1 to 3, in which 0 is the 64th step
    torch.testing.assert_close(seen[0], step * ((loud / step).round().clamp(-64, 191)))
    torch.testing.assert_close(seen[1], seen[0] / 100)
    torch.testing.assert_close(seen[2:], torch.stack([-constant, 0 * loud]))


def test_ranges_found_in_frames_are_those_of_64_channels(small: Subject) -> None:
    unit = {"se_res2block1": "int4_dynamic"}
    layers = quantizable_layers(simulate(small.network, _mask(small, unit), small.table))
    wide, narrow = layers["se_res2block1.conv_in"], layers["se_res2block1.res2_conv.convs.0"]
    assert (wide.weight.shape[1], narrow.weight.shape[1]) == (64, 16)
    frames = torch.linspace(-127, 100, 64)[:, None] * torch.tensor([1, 0.01, 0])
    seen = _seen_by(wide, frames[None])[0]
    torch.testing.assert_close(seen, frames[:, :1].round() * torch.tensor([1, 0.01, 0]))
    assert torch.equal(_seen_by(narrow, frames[None, :16])[0], frames[:16])
    alone = simulate(
        nn.Sequential(nn.Conv1d(64, 1, 1)), Mask(Units({"0": ("0",)}), {"0": "int4_dynamic"}), small.table
    )
    assert torch.equal(_seen_by(alone.get_submodule("0"), frames[None])[0], frames)


@pytest.mark.parametrize("precision", ["int8", "int8_dynamic", "int4_dynamic"])
def test_gradients_pass_what_is_rounded(small: Subject, precision: str) -> None:
    mask = _mask(small, {"se_res2block1": precision})
    layer = quantizable_layers(simulate(small.network, mask, small.table))["se_res2block1.conv_in"]
    inputs = torch.rand(2, 64, 9, requires_grad=True)
    layer(inputs).sum().backward()
    assert inputs.grad is not None
    expected = layer.weight.sum((0, 2))[:, None].expand(2, -1, 9)
    torch.testing.assert_close(inputs.grad, expected)


def test_half_layers_see_rounded_inputs_and_weights(small: Subject) -> None:
    simulated = simulate(small.network, _mask(small, {"aggregation_conv": "fp16"}), small.table)
    layer, plain = simulated.aggregation_conv, small.network.aggregation_conv
    assert torch.equal(layer.weight, plain.weight.half().float())
    inputs = torch.linspace(-3, 3, 999).repeat(plain.in_channels, 1)[None]
    assert torch.equal(_seen_by(layer, inputs), inputs.half().float())


def test_computes_what_nvidias_quantizers_compute(small: Subject) -> None:
    mask = _mask(small, dict.fromkeys(small.network.units(), "int8"))
    original = insert_quantizers(small.network)
    for name, layer in quantized_layers(original).items():
        layer.input_quantizer.amax = small.table.input_ranges[name]
        shape = (-1, *(1 for _ in layer.weight.shape[1:]))
        layer.weight_quantizer.amax = small.table.weight_ranges[name].reshape(shape)
        layer.input_quantizer.enable()
        layer.weight_quantizer.enable()
    simulated = simulate(small.network, mask, small.table)
    # A value between two steps may fall to either, and other layers follow it.
    agreement = Agreement.of(
        lambda features: embed_with_network(simulated, features),
        lambda features: embed_with_network(original, features),
        small.recordings,
        0.99999,
    )
    assert agreement.is_enough, agreement


def test_layers_outside_the_mask_are_not_quantized(small: Subject) -> None:
    mask = _mask(small, {"se_res2block2": "int8"})
    simulated = simulate(small.network, mask, small.table)
    features = torch.from_numpy(small.recordings[0])[None]
    layers = list(quantizable_layers(small.network))
    plain, changed = _outputs(small.network, layers, features), _outputs(simulated, layers, features)
    for name in layers:
        before_the_unit = name.startswith(("input_conv", "se_res2block1"))
        assert torch.equal(plain[name], changed[name]) == before_the_unit, name
    rounded = {
        name
        for name in layers
        if not torch.equal(simulated.get_submodule(name).weight, small.network.get_submodule(name).weight)
    }
    assert rounded == {layer for layer, precision in mask.layers.items() if precision is INT8}


def test_the_model_is_left_alone(small: Subject) -> None:
    before = {name: value.clone() for name, value in small.network.state_dict().items()}
    simulate(small.network, _mask(small, dict.fromkeys(small.network.units(), "int8")), small.table)
    assert all(torch.equal(value, before[name]) for name, value in small.network.state_dict().items())
    assert type(small.network.input_conv) is nn.Conv1d


@pytest.mark.parametrize("misfit", ["missing", "another width"])
def test_refuses_the_table_of_another_model(small: Subject, misfit: str) -> None:
    ranges = dict(small.table.weight_ranges)
    inputs = dict(small.table.input_ranges)
    if misfit == "missing":
        del ranges["aggregation_conv"], inputs["aggregation_conv"]
    else:
        ranges["aggregation_conv"] = np.ones(7, np.float32)
    table = CalibrationTable("max", inputs, ranges)
    with pytest.raises(UserError, match="no ranges that fit aggregation_conv"):
        simulate(small.network, _mask(small, {"aggregation_conv": "int8"}), table)
    simulate(small.network, _mask(small, {"input_conv": "int8"}), table)


def _mask(subject: Subject, precisions: Mapping[str, str]) -> Mask:
    return Mask(subject.network.units(), precisions)


def _seen_by(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """What the layer computes with when it is given ``inputs``."""
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.inference_mode():
        layer(inputs)
    handle.remove()
    return seen[0]


def _outputs(network: nn.Module, layers: list[str], features: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each layer puts out."""
    outputs: dict[str, torch.Tensor] = {}
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: outputs.__setitem__(name, output)
        )
        for name in layers
    ]
    with torch.inference_mode():
        network(features)
    for handle in handles:
        handle.remove()
    return outputs
