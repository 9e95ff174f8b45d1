"""Engines are held against what their masks say, by a measure of how closely the network lets them agree."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.architectures.layers import quantizable_layers
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.architectures.units import Units
from speakerquant.audio.front_end import FrontEnd
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.base import Engine
from speakerquant.errors import UserError
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.measuring.check import FidelityCheck, fidelity
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import INT8
from speakerquant.quantization.prepared import PreparedModel
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding

BITS = 7
MIN_FIDELITY = 0.999
GENERATOR = np.random.default_rng(1)
RECORDINGS = [GENERATOR.normal(size=(16, length)).astype(np.float32) for length in (60, 80, 100, 120)]


class Amplifying(nn.Module):
    """Layers that each make a small difference larger, as deep networks may."""

    def __init__(self, depth: int, gain: float) -> None:
        super().__init__()
        self.first = nn.Conv1d(16, 32, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv1d(32, 32, 3, padding=1) for _ in range(depth))
        self.embedding = nn.Linear(32, 24)
        generator = torch.Generator().manual_seed(0)
        for layer in (self.first, *self.layers):
            nn.init.normal_(layer.weight, 0, gain / (32 * 3) ** 0.5, generator)

    def forward(self, features: Tensor) -> Tensor:
        frames = self.first(features).tanh()
        for layer in self.layers:
            frames = layer(frames).tanh()
        embedding: Tensor = self.embedding(frames.mean(dim=2))
        return embedding


class Subject:
    """A network in INT8, the check of it, and engines of it, right and wrong."""

    def __init__(self, depth: int, gain: float, folder: Path) -> None:
        torch.manual_seed(0)
        network = Amplifying(depth, gain).eval()
        self.folder = folder
        self.graph = export_network(network, n_mels=16)
        self.mask = Mask(Units({name: (name,) for name in quantizable_layers(network)}), {"*": INT8})
        self.table = calibrate(network, [torch.from_numpy(each) for each in RECORDINGS], "max")
        model = SpeakerModel(cast(SpeakerNetwork, network), FrontEnd(), "amplifying")
        self.prepared = PreparedModel(model, self.table, Rounding(), "nearest", BITS)

    def check(self, engine: Engine) -> float:
        check = FidelityCheck(RECORDINGS, MIN_FIDELITY)
        return check.check(engine, check.simulate(self.prepared, self.mask))

    def engine(self, backend: str, table: CalibrationTable | None = None) -> Engine:
        path = self.folder / "model.onnx"
        properties = {"mask": self.mask.key}
        write_mask(
            self.graph, self.mask, table or self.table, path, max_weight_bits=BITS, properties=properties
        )
        return engine_builder(backend).build(path)

    def with_wrong_scale(self, layer: str) -> CalibrationTable:
        return replace(
            self.table, input_ranges={**self.table.input_ranges, layer: self.table.input_ranges[layer] / 3}
        )


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, float], Subject]:
    return lambda depth, gain: Subject(depth, gain, tmp_path_factory.mktemp("subject"))


def test_a_right_engine_may_differ_as_the_network_amplifies_rounding_errors(
    subject: Callable[[int, float], Subject],
) -> None:
    amplifying = subject(22, 2.5)
    amplifying.check(amplifying.engine("openvino"))  # 0.9905 on a processor with AVX2


@pytest.mark.parametrize(("depth", "gain"), [(22, 2.5), (4, 1.5)], ids=["amplifying", "steady"])
def test_a_wrong_engine_is_refused(subject: Callable[[int, float], Subject], depth: int, gain: float) -> None:
    network = subject(depth, gain)
    wrong = network.engine("onnxruntime", network.with_wrong_scale("layers.1"))
    with pytest.raises(UserError, match=r"engine\.min_fidelity=0\.999: the onnxruntime engine of .* agrees"):
        network.check(wrong)


def test_embeddings_that_are_not_numbers_agree_with_nothing() -> None:
    reference = np.ones((2, 3), np.float32)
    assert np.isnan(fidelity(np.full((2, 3), np.nan, np.float32), reference))


def test_a_broken_network_is_not_put_down_to_the_engine(subject: Callable[[int, float], Subject]) -> None:
    broken = subject(1, 1.0)
    with torch.no_grad():
        broken.prepared.model.network.get_parameter("embedding.bias")[0] = torch.nan
    with pytest.raises(UserError, match=r"^\S+: the network itself.* not finite; check the checkpoint"):
        FidelityCheck(RECORDINGS, MIN_FIDELITY).simulate(broken.prepared, broken.mask)
