from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pytorch_quantization.calib import HistogramCalibrator
from torch import Tensor, nn

from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn
from speakerquant.architectures.layers import quantizable_layers
from speakerquant.errors import UserError
from speakerquant.quantization.calibration import METHODS, InputCalibrator, calibrate

every_method = pytest.mark.parametrize("method", METHODS)
devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
        ),
    ],
)


@pytest.fixture
def model() -> EcapaTdnn:
    torch.manual_seed(0)
    config = EcapaTdnnConfig(
        channels=32, se_channels=8, aggregation_channels=48, attention_channels=16, embedding_dim=12
    )
    return EcapaTdnn(config).eval()


@pytest.fixture
def recordings() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [scale * torch.randn(80, 60 + 7 * i, generator=generator) for i, scale in enumerate((2, 3, 1, 2))]


def _layer_inputs(model: nn.Module, recordings: list[Tensor]) -> dict[str, list[Tensor]]:
    """What reaches each layer of the plain network, one tensor per recording."""
    inputs: dict[str, list[Tensor]] = {name: [] for name in quantizable_layers(model)}
    handles = [
        layer.register_forward_pre_hook(lambda _, args, seen=inputs[name]: seen.append(args[0]))
        for name, layer in quantizable_layers(model).items()
    ]
    with torch.inference_mode():
        for recording in recordings:
            model(recording[None])
    for handle in handles:
        handle.remove()
    return inputs


def test_max_is_the_exact_maximum_of_the_plain_network(model: EcapaTdnn, recordings: list[Tensor]) -> None:
    expected = {
        name: max(x.abs().max().item() for x in seen)
        for name, seen in _layer_inputs(model, recordings).items()
    }
    assert dict(calibrate(model, recordings, "max").input_ranges) == expected


@pytest.mark.parametrize("percentile", [90, 99.9, 99.99])
def test_percentile_is_what_the_original_finds(
    model: EcapaTdnn, recordings: list[Tensor], percentile: float
) -> None:
    table = calibrate(model, recordings, "percentile", percentile)
    for name, seen in _layer_inputs(model, recordings).items():
        original = HistogramCalibrator(8, None, False)
        for x in seen:
            original.collect(x)
        expected = original.compute_amax("percentile", percentile=percentile).item()
        assert table.input_ranges[name] == pytest.approx(expected, rel=1e-5), name


@devices
@every_method
def test_every_method_fills_the_table(
    model: EcapaTdnn, recordings: list[Tensor], method: str, device: str
) -> None:
    largest = calibrate(model, recordings, "max").input_ranges
    table = calibrate(model.to(device), recordings, method)
    assert table.method == method
    assert list(table.input_ranges) == list(table.weight_ranges) == list(quantizable_layers(model))
    for name, amax in table.input_ranges.items():
        assert 0.05 * largest[name] < amax < 1.01 * largest[name], name


@every_method
def test_weights_get_their_maximum_per_output_channel(
    model: EcapaTdnn, recordings: list[Tensor], method: str
) -> None:
    ranges = calibrate(model, recordings, method).weight_ranges
    for name, layer in quantizable_layers(model).items():
        expected = layer.weight.detach().abs().flatten(1).amax(dim=1).numpy()
        np.testing.assert_array_equal(ranges[name], expected)
        assert ranges[name].dtype == np.float32


def test_leaves_the_model_as_it_is(model: EcapaTdnn, recordings: list[Tensor]) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    calibrate(model, recordings)
    assert model.training
    assert type(model.input_conv) is nn.Conv1d
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_takes_recordings_from_a_generator_one_by_one_or_in_batches(
    model: EcapaTdnn, recordings: list[Tensor]
) -> None:
    def stream() -> Iterator[Tensor]:
        yield from equal_length

    equal_length = [recording[:, :60] for recording in recordings]
    one_by_one = calibrate(model, stream(), "max").input_ranges
    batched = calibrate(model, [torch.stack(equal_length)], "max").input_ranges
    assert dict(batched) == pytest.approx(dict(one_by_one), rel=1e-5)


@every_method
def test_dead_layers_and_channels_get_a_usable_range(
    model: EcapaTdnn, recordings: list[Tensor], method: str
) -> None:
    block = model.se_res2block1
    with torch.no_grad():
        block.conv_out.weight[3] = 0
        block.squeeze_excitation.squeeze.weight.zero_()
        block.squeeze_excitation.squeeze.bias.zero_()  # so that excite sees nothing but zeros
    table = calibrate(model, recordings, method)  # the table itself refuses ranges that are not positive
    assert np.isfinite(table.input_ranges["se_res2block1.squeeze_excitation.excite"])


@pytest.mark.parametrize(
    "method", [method for method in METHODS if method != "entropy"]
)  # hangs on bin width
@pytest.mark.parametrize("level", [0.0, 1e-6, 1e-3], ids=["digital silence", "rounding noise", "faint noise"])
def test_a_silent_first_recording_spoils_nothing(recordings: list[Tensor], method: str, level: float) -> None:
    model = nn.Sequential(OrderedDict(input_conv=nn.Conv1d(80, 8, 5)))
    silence = level * torch.randn(80, 50, generator=torch.Generator().manual_seed(2))
    first = calibrate(model, [silence, *recordings], method).input_ranges["input_conv"]
    last = calibrate(model, [*recordings, silence], method).input_ranges["input_conv"]
    assert first == pytest.approx(last, rel=0.03)


def test_histogram_is_bounded_and_loses_no_count() -> None:
    calibrator = InputCalibrator()
    generator = torch.Generator().manual_seed(0)
    batches = [10.0**exponent * torch.randn(1000, generator=generator) for exponent in range(-6, 4)]
    for batch in batches:
        calibrator.collect(batch)
    counts, edges = calibrator.histogram()
    assert len(counts) <= calibrator.max_bins
    values = torch.cat(batches).abs().double().numpy()
    assert counts.sum() == len(values)
    cumulative = np.searchsorted(np.sort(values), edges[1:])
    assert np.abs(np.cumsum(counts) - cumulative).max() <= 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "x"}, "calibration.method: unknown method 'x'; valid are max, percentile, entropy, mse"),
        ({"percentile": 0.0}, "calibration.percentile: 0.0 "),
        ({"percentile": 101.0}, "calibration.percentile: 101.0 "),
        ({"features": []}, "no recordings to calibrate on"),
        ({"features": [torch.full((80, 50), torch.nan)]}, "the input of input_conv is not finite"),
    ],
    ids=["unknown method", "zero percentile", "percentile above 100", "no recordings", "NaN features"],
)
def test_refuses(
    model: EcapaTdnn, recordings: list[Tensor], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        calibrate(model, **{"features": recordings, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("se_res2block2.conv_in.weight", "the weight of se_res2block2.conv_in is not finite"),
        ("se_res2block2.conv_in.bias", "the input of se_res2block2.res2_conv.convs.0 is not finite"),
    ],
)
def test_names_the_layer_where_a_broken_checkpoint_shows(
    model: EcapaTdnn, recordings: list[Tensor], broken: str, message: str
) -> None:
    with torch.no_grad():
        model.get_parameter(broken)[0] = torch.inf
    with pytest.raises(UserError, match=message):
        calibrate(model, recordings)
