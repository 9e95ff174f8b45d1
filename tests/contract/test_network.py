"""What every network must do: be exported, calibrated, rounded, and computed by engines as its masks say."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from conftest import SMALL_ECAPA_TDNN, cached_features
from torch import nn
from toy_network import TOY, ToyConfig, export_toy
from varied_network import VARIED, VariedConfig

from speakerquant.architectures.architecture import Architecture
from speakerquant.architectures.campplus import CAMPPLUS
from speakerquant.architectures.campplus.config import CamPlusPlusConfig
from speakerquant.architectures.checkpoints import SpeakerModel
from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.layers import geometries
from speakerquant.architectures.onnx_file import ONNX_FILE
from speakerquant.architectures.onnx_file.config import OnnxFileConfig
from speakerquant.architectures.onnx_file.network import OnnxFileNetwork
from speakerquant.architectures.registry import architectures
from speakerquant.architectures.resnet import RESNET
from speakerquant.architectures.resnet.config import ResNetConfig
from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.audio.front_end import FrontEnd
from speakerquant.cache import Cache
from speakerquant.engine.backends import REFERENCE, engine_builder
from speakerquant.engine.base import Engine, EngineBuilder
from speakerquant.engine.tensorrt.tensorrt_settings import TensorRtRtxSettings
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.measuring.check import Agreement, embedding_by, fidelity
from speakerquant.measuring.embedding import embed_with_network
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.hessians import gather_hessians
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import _BY_NAME, Precision, WeightFormat, register
from speakerquant.quantization.prepared import PreparedModel
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.rounding import Rounding
from speakerquant.quantization.rounding_method import RoundingMethod
from speakerquant.quantization.simulate import simulate
from speakerquant.recovery.recovery import Recovery
from speakerquant.recovery.settings import RecoverySettings

pytestmark = pytest.mark.slow


def _exported(folder: Path) -> OnnxFileConfig:
    """The toy network as an ONNX file."""
    return OnnxFileConfig(str(export_toy(folder / "network.onnx")))


NETWORKS: dict[str, tuple[Architecture, Any]] = {
    "ecapa_tdnn": (ECAPA_TDNN, SMALL_ECAPA_TDNN),
    "campplus": (
        CAMPPLUS,
        CamPlusPlusConfig(
            n_mels=16,
            head_channels=16,
            channels=32,
            growth=16,
            bottleneck_channels=32,
            num_layers=[2, 1, 1],
            segment_frames=10,
            embedding_dim=48,
        ),
    ),
    "resnet": (RESNET, ResNetConfig(n_mels=16, channels=8, num_blocks=[1, 1, 1, 1], embedding_dim=48)),
    "onnx": (ONNX_FILE, _exported),
    "toy": (TOY, ToyConfig()),
    "varied": (VARIED, VariedConfig()),
}
ENGINES = ("onnxruntime", "openvino")
_TEXT = 4_000  # bytes an engine may take for the operations of a layer that dequantize, and their names


@dataclass(frozen=True)
class Prepared:
    """A network with all that its masks share, and recordings that it has not been calibrated on."""

    network: SpeakerNetwork
    table: CalibrationTable
    rounding: Rounding
    graph: onnx.ModelProto
    recordings: list[npt.NDArray[np.float32]]

    def write(self, mask: Mask, path: Path, bits: int) -> None:
        """Write the ONNX graph of a mask."""
        write_mask(self.graph, mask, self.table, path, max_weight_bits=bits, rounding=self.rounding)


@pytest.fixture(scope="module", params=NETWORKS)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    architecture, config = NETWORKS[request.param]
    network = _network(architecture, config(tmp_path_factory.mktemp("file")) if callable(config) else config)
    calibration = [torch.from_numpy(x) for x in _recordings(network.n_mels, 8, seed=1)]
    hessians = gather_hessians(network, calibration)
    return Prepared(
        network,
        calibrate(network, calibration, "max"),
        Rounding(RoundingMethod.gptq, lambda: hessians),
        export_network(network, network.n_mels),
        _recordings(network.n_mels, 2, seed=2),
    )


@pytest.fixture(scope="module", params=ENGINES)
def builder(request: pytest.FixtureRequest) -> EngineBuilder:
    return engine_builder(request.param)


@pytest.fixture(scope="module")
def in_fp32(
    prepared: Prepared, builder: EngineBuilder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """The network's engine that quantizes nothing."""
    path = tmp_path_factory.mktemp("fp32") / "model.onnx"
    prepared.write(Mask(prepared.network.units(), {}), path, 8)
    with builder.build(path) as engine:
        yield engine


def test_every_registered_network_is_here() -> None:
    assert {architecture.name for architecture in architectures()} <= NETWORKS.keys()


# Of FP32 alone and of one scale for each channel there are tests below.
@pytest.mark.parametrize(
    "precision", ["int8", "int8_fitted", "int8_dynamic", "int4", "int4_dynamic", "int2", "mixed"]
)
def test_engines_compute_what_the_mask_says(
    prepared: Prepared, builder: EngineBuilder, precision: str, tmp_path: Path
) -> None:
    units = prepared.network.units()
    cycle = ("int8", "int4", "int2", "fp32") if precision == "mixed" else (precision,)
    mask = Mask(units, {unit: cycle[place % len(cycle)] for place, unit in enumerate(units)})
    bits = builder.weight_bits()
    layers = geometries(prepared.network)
    if not all(builder.runs(each, layers[name]) for name, each in mask.layers.items()):
        assert precision.endswith("_dynamic")
        pytest.skip(f"{builder.name} does not find such ranges on this processor")
    builder.check_mask(mask, layers)
    assert not builder.widened(mask, layers)
    prepared.write(mask, tmp_path / "model.onnx", bits)
    simulated = simulate(prepared.network, mask, prepared.table, bits, prepared.rounding)
    rounds_inputs = any(each.input_bits for each in mask.values())
    smallest = 0.999 if rounds_inputs else 0.99999
    with builder.build(tmp_path / "model.onnx") as engine:
        agreement = Agreement.of(
            embedding_by(engine),
            lambda features: embed_with_network(simulated, features),
            prepared.recordings,
            smallest,
        )
    assert agreement.is_enough, agreement


@pytest.fixture(scope="module")
def recovered(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedModel, Mask]:
    """The network after a recovery of a mask with integers of all kinds."""
    folder = tmp_path_factory.mktemp("recovery")
    network, speech = prepared.network, cached_features(prepared.recordings, folder / "features")
    units, cycle = network.units(), ("int8", "int2", "int4_channel")
    mask = Mask(units, {unit: cycle[place % len(cycle)] for place, unit in enumerate(units)})
    model = SpeakerModel(network, FrontEnd(n_mels=network.n_mels), "network")
    recovery = Recovery(RecoverySettings(steps=2, batch_size=2), lambda: speech, Cache(folder / "cache"))
    return recovery.recovered(PreparedModel(model, prepared.table, prepared.rounding, "gptq", 7), mask), mask


def test_engines_compute_what_a_recovered_mask_says(
    recovered: tuple[PreparedModel, Mask], prepared: Prepared, builder: EngineBuilder, tmp_path: Path
) -> None:
    network, mask = recovered
    graph = export_network(network.model.network, network.model.network.n_mels)
    path = tmp_path / "model.onnx"
    write_mask(graph, mask, network.table, path, max_weight_bits=7, rounding=network.rounding)
    with builder.build(path) as engine:
        embeddings = np.stack(list(engine.embed_many(prepared.recordings)))
    assert fidelity(embeddings, embed_with_network(network.simulate(mask), prepared.recordings)) >= 0.999


def test_what_it_is_exported_to_is_a_network_too(prepared: Prepared, tmp_path: Path) -> None:
    network = prepared.network
    prepared.write(Mask(network.units(), {}), tmp_path / "model.onnx", 8)
    again = OnnxFileNetwork(OnnxFileConfig(str(tmp_path / "model.onnx")))
    embeddings = (embed_with_network(each, prepared.recordings) for each in (again, network))
    assert fidelity(*embeddings) >= 0.99999


@pytest.fixture(scope="module")
def tensorrt_rtx() -> EngineBuilder:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    return engine_builder("tensorrt_rtx", TensorRtRtxSettings(compute_capability="8.6"))


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "fp16"])
def test_tensorrt_is_given_what_the_mask_says(
    prepared: Prepared, tensorrt_rtx: EngineBuilder, precision: str, tmp_path: Path
) -> None:
    mask = Mask(prepared.network.units(), {"*": precision})
    tensorrt_rtx.check_mask(mask, geometries(prepared.network))
    prepared.write(mask, tmp_path / "model.onnx", 8)
    given = tensorrt_rtx.given_network(tmp_path / "model.onnx")
    onnx.checker.check_model(given, full_check=True)
    onnx.save(given, tmp_path / "given.onnx")
    reference = embed_with_network(
        simulate(prepared.network, mask, prepared.table, 8, prepared.rounding), prepared.recordings
    )
    with engine_builder(REFERENCE).build(tmp_path / "given.onnx") as engine:
        embeddings = np.stack(list(engine.embed_many(prepared.recordings)))
    assert fidelity(embeddings, reference) >= (0.99999 if precision in ("fp32", "int4") else 0.999)


def test_tensorrt_for_rtx_builds_it(prepared: Prepared, tensorrt_rtx: EngineBuilder, tmp_path: Path) -> None:
    units = prepared.network.units()
    cycle = ("int8", "int4", "fp16", "fp32")
    mask = Mask(units, {unit: cycle[place % len(cycle)] for place, unit in enumerate(units)})
    prepared.write(mask, tmp_path / "model.onnx", 8)
    assert tensorrt_rtx.build(tmp_path / "model.onnx").size_bytes > 0


@pytest.fixture
def int3() -> Iterator[Precision]:
    """Weights of a width that no engine stores, known for the length of a test."""
    yield register(Precision("int3", WeightFormat(3, group_size=64)))
    del _BY_NAME["int3"]


def test_a_width_that_is_not_stored_takes_the_next_one(
    prepared: Prepared, builder: EngineBuilder, int3: Precision, tmp_path: Path
) -> None:
    network, layers = prepared.network, geometries(prepared.network)
    mask = Mask(network.units(), {"*": "int3_channel"})
    assert {*builder.widened(mask, layers)} == {*layers}
    prepared.write(mask, tmp_path / "model.onnx", 8)
    simulated = simulate(network, mask, prepared.table, 8, prepared.rounding)
    with builder.build(tmp_path / "model.onnx") as engine:
        embeddings = np.stack(list(engine.embed_many(prepared.recordings)))
    assert fidelity(embeddings, embed_with_network(simulated, prepared.recordings)) >= 0.99999


def test_groups_of_several_sizes_share_a_mask(
    prepared: Prepared, builder: EngineBuilder, in_fp32: Engine, tmp_path: Path
) -> None:
    """Engines hold the integers of each format in its bits, and a scale for each of its groups."""
    units = prepared.network.units()
    first, *_, last = units
    mask = Mask(units, {"*": "int4_g128", first: "int4_g32", last: "int2_channel"})
    prepared.write(mask, tmp_path / "model.onnx", 8)
    size = builder.build(tmp_path / "model.onnx").size_bytes
    layers = geometries(prepared.network)
    saved = 0.0
    for name, precision in mask.layers.items():
        geometry, weights, bits = (
            layers[name],
            precision.weights,
            builder.stored_bits(precision, layers[name]),
        )
        assert weights is not None
        if bits < 32:
            count = geometry.out_channels * geometry.channels_seen * geometry.num_taps
            length = geometry.group_length(weights.group_size, 16)
            saved += count * (32 - bits) / 8 - 4 * (count / length if length else geometry.out_channels)
    assert in_fp32.size_bytes - size == pytest.approx(saved, abs=_TEXT * len(layers))


def test_any_length_from_the_fewest_frames_on(prepared: Prepared, in_fp32: Engine) -> None:
    network = prepared.network
    for frames in (network.min_frames, network.min_frames + 1, 57):
        recording = np.ascontiguousarray(prepared.recordings[0][:, :frames])
        embedding = in_fp32.embed(recording[np.newaxis])
        assert fidelity(embedding, embed_with_network(network, [recording])) >= 0.99999


def _network(architecture: Architecture, config: Any) -> SpeakerNetwork:
    """Of random weights, whose normalisations have seen the features they get."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = architecture.build(config)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
                module.momentum = None
        network.train()
        network(torch.from_numpy(np.stack([x[:, :100] for x in _recordings(network.n_mels, 16, seed=0)])))
    return network.eval()


def _recordings(n_mels: int, count: int, seed: int) -> list[npt.NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return [
        (2 * generator.standard_normal((n_mels, 104 + 23 * index))).astype(np.float32)
        for index in range(count)
    ]
