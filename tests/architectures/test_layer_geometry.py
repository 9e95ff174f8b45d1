"""A layer's geometry says what each output is computed from, whatever the layer."""

import pytest
import torch
from torch import nn

from speakerquant.architectures.layers import (
    LayerGeometry,
    QuantizableLayer,
    quantizable_layers,
    unreached_in_words,
    unreached_layers,
    unreached_share,
)
from speakerquant.quantization.quantizers import QuantizedLayer

LAYERS: dict[str, tuple[QuantizableLayer, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 5), (3, 6)),
    "linear on frames": (nn.Linear(6, 5, bias=False), (2, 7, 6)),
    "conv1d": (nn.Conv1d(6, 5, 3, stride=2, dilation=2, padding=2), (2, 6, 21)),
    "conv1d, same": (nn.Conv1d(6, 5, 4, padding="same"), (2, 6, 21)),
    "conv1d, reflect": (nn.Conv1d(6, 4, 5, padding=2, padding_mode="reflect", groups=2), (2, 6, 21)),
    "conv1d, depthwise": (nn.Conv1d(6, 12, 3, padding=1, groups=6, bias=False), (2, 6, 21)),
    "conv2d": (nn.Conv2d(4, 6, (3, 5), stride=(2, 1), dilation=(1, 2), padding=(1, 4)), (2, 4, 9, 21)),
    "conv2d, grouped": (nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), (2, 4, 9, 21)),
    "conv2d, circular": (nn.Conv2d(4, 6, 3, padding=(0, 1), padding_mode="circular"), (2, 4, 9, 21)),
}


@pytest.fixture(params=LAYERS)
def case(request: pytest.FixtureRequest) -> tuple[QuantizableLayer, torch.Tensor]:
    layer, shape = LAYERS[request.param]
    torch.manual_seed(0)
    return layer, torch.randn(shape)


def test_outputs_are_products_of_what_they_see(case: tuple[QuantizableLayer, torch.Tensor]) -> None:
    layer, inputs = case
    geometry = LayerGeometry.of(layer)
    windows = geometry.windows(inputs)
    places = torch.arange(windows.shape[: windows.dim() - 1 - geometry.num_axes].numel())
    seen = geometry.seen(windows, places)
    columns = geometry.columns(layer.weight).reshape(geometry.groups, -1, seen.shape[2])
    products = (seen @ columns.transpose(1, 2)).transpose(0, 1).flatten(1)
    if layer.bias is not None:
        products = products + layer.bias
    outputs = layer(inputs)
    channels_last = outputs.movedim(1, -1) if geometry.num_axes else outputs
    torch.testing.assert_close(products, channels_last.flatten(0, -2))


def test_columns_are_put_back(case: tuple[QuantizableLayer, torch.Tensor]) -> None:
    layer, _ = case
    geometry = LayerGeometry.of(layer)
    assert torch.equal(geometry.from_columns(geometry.columns(layer.weight)), layer.weight)


def test_a_layer_with_quantizers_switched_off_computes_the_same(
    case: tuple[QuantizableLayer, torch.Tensor],
) -> None:
    layer, inputs = case
    torch.testing.assert_close(QuantizedLayer(layer)(inputs), layer(inputs))


class Odd(nn.Module):
    """Layers that cannot be quantized, beside one that can."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3)
        self.up = nn.ConvTranspose1d(4, 2, 2)
        self.attention = nn.MultiheadAttention(4, 2)
        self.own = nn.Parameter(torch.ones(2, 5))
        self.norm = nn.BatchNorm1d(4)


def test_every_layer_out_of_reach_is_named() -> None:
    network = Odd()
    assert [*quantizable_layers(network)] == ["conv"]
    assert {name: layer.kind for name, layer in unreached_layers(network).items()} == {
        "network": "Odd",
        "up": "ConvTranspose1d",
        "attention": "MultiheadAttention",
    }
    reached, others = 4 * 4 * 3, 2 * 5 + 4 * 2 * 2 + 12 * 4 + 4 * 4
    assert unreached_share(network) == pytest.approx(others / (reached + others))
    assert unreached_in_words(network).endswith(
        "network (Odd), up (ConvTranspose1d), attention (MultiheadAttention)"
    )
    assert unreached_in_words(network.conv) == ""
