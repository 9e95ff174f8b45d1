"""Small networks that OpenVINO computes wrongly or slowly unless their graph is changed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from speakerquant.architectures.units import layer_units
from speakerquant.engine.openvino.openvino_engine import OpenVinoBuilder
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import INT2, INT4, INT8, Precision
from speakerquant.quantization.simulate import simulate


class Concatenation(nn.Module):
    """A convolution of two branches, one of them half of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(80, 128, 5, padding=2)
        self.joined = nn.Conv1d(256, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        joined: Tensor = self.joined(torch.cat([hidden, hidden * 0.5], dim=1))
        return joined.flatten(1)


class MeanOfNormalized(nn.Module):
    """A convolution of the mean over time of normalised maps, as in squeeze-excitation."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Conv1d(80, 128, 1)
        self.norm = nn.BatchNorm1d(128)
        nn.init.constant_(self.norm.weight[::2], factor)
        self.squeeze = nn.Conv1d(128, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed: Tensor = self.squeeze(self.norm(self.first(x).relu()).mean(dim=2, keepdim=True))
        return squeezed.flatten(1)


class Convolutions(nn.Module):
    """Convolutions of kernel 1 that are matrix products, and others that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(80, 96, 1),
            nn.ReLU(),
            nn.Conv1d(96, 64, 1, bias=False),
            nn.Conv1d(64, 64, 1, stride=2),
            nn.Conv1d(64, 64, 1, padding=1),
            nn.Conv1d(64, 64, 1, groups=4),
            nn.Conv1d(64, 48, 3, dilation=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features.flatten(1)


@pytest.mark.parametrize(
    ("network", "precisions", "tolerance"),
    [
        pytest.param(Concatenation(), {"joined": INT8}, 1e-2, id="int8 after a concatenation"),
        pytest.param(Concatenation(), {"*": INT8}, 1e-2, id="int8 around a concatenation"),
        pytest.param(MeanOfNormalized(), {"first": INT8}, 1e-2, id="fp32 mean in an int8 network"),
        pytest.param(MeanOfNormalized(), {"*": INT8}, 1e-2, id="int8 around a mean"),
        pytest.param(Convolutions(), {}, 1e-5, id="fp32 convolutions of kernel 1"),
        pytest.param(Convolutions(), {"*": INT4}, 1e-5, id="packed convolutions of many forms"),
        pytest.param(MeanOfNormalized(), {"*": INT2}, 1e-5, id="packed before a normalisation"),
        pytest.param(MeanOfNormalized(factor=-1.0), {"*": INT4}, 1e-5, id="packed before negative factors"),
        pytest.param(Concatenation(), {"first": INT4, "joined": INT8}, 1e-2, id="packed beside int8"),
    ],
)
def test_computes_what_the_graph_says(
    network: nn.Module, precisions: dict[str, Precision], tolerance: float, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.bias)
    network.eval()
    features = torch.randn(4, 80, 100)
    builder = OpenVinoBuilder()
    mask = Mask(layer_units(network), precisions)
    table = calibrate(network, [features], "max")
    simulated = simulate(network, mask, table, builder.weight_bits())
    write_mask(
        export_network(network, n_mels=80),
        mask,
        table,
        tmp_path / "model.onnx",
        max_weight_bits=builder.weight_bits(),
    )
    embeddings = builder.build(tmp_path / "model.onnx").embed(features.numpy())
    with torch.inference_mode():
        reference = simulated(features).numpy()
    assert np.linalg.norm(embeddings - reference) <= tolerance * np.linalg.norm(reference)
