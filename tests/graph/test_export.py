"""The exported file computes what the simulation computes, in any runtime that reads ONNX."""

import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Subject, exported_network, write_model
from onnx import numpy_helper
from pytorch_quantization.nn import TensorQuantizer
from torch import nn

from speakerquant.architectures.speaker_network import SpeakerNetwork
from speakerquant.architectures.units import Units
from speakerquant.errors import UserError
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import write_mask
from speakerquant.measuring.check import fidelity
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP16, FP32, INT8
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.simulate import simulate

INT8_UNITS = {
    "none": [],
    "one": ["se_res2block1"],
    "linear": ["embedding_linear"],
    "all": [
        "input_conv",
        "se_res2block1",
        "se_res2block2",
        "se_res2block3",
        "aggregation_conv",
        "attentive_pooling",
        "embedding_linear",
    ],
}


def _int8_layers(mask: Mask) -> set[str]:
    return {layer for layer, precision in mask.layers.items() if precision is INT8}


BY_PARTS = "attentive_pooling.hidden"  # of a frame, the mean and the deviation: three convolutions


@pytest.fixture(scope="module", params=INT8_UNITS)
def exported(
    request: pytest.FixtureRequest, small: Subject, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Mask, torch.nn.Module, Path]:
    mask = Mask(small.network.units(), dict.fromkeys(INT8_UNITS[request.param], INT8))
    simulated = simulate(small.network, mask, small.table)
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    write_model(small.network, path, mask, small.table)
    return mask, simulated, path


def test_onnx_runtime_computes_the_same(exported: tuple[Mask, torch.nn.Module, Path], small: Subject) -> None:
    _, simulated, path = exported
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for batch, frames in ((1, 1), (1, 104), (3, 57)):
        features = np.stack([x[:, :frames] for x in small.recordings[:batch]])
        (embeddings,) = session.run(["embeddings"], {"features": features})
        with torch.inference_mode():
            reference = simulated(torch.from_numpy(features)).numpy()
        assert embeddings.shape == reference.shape
        assert fidelity(embeddings, reference) >= 0.999


def test_only_int8_layers_have_quantizers(exported: tuple[Mask, torch.nn.Module, Path]) -> None:
    mask, _, path = exported
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(node.op_type for node in model.graph.node)
    layers = len(_int8_layers(mask)) + 2 * (BY_PARTS in _int8_layers(mask))
    assert kinds["QuantizeLinear"] == layers  # of the inputs; weights are stored quantized
    assert kinds["DequantizeLinear"] == 2 * layers


def test_the_attentions_context_is_not_repeated_in_every_frame(
    exported: tuple[Mask, torch.nn.Module, Path], small: Subject
) -> None:
    _, _, path = exported
    graph = onnx.load(path).graph
    assert "Expand" not in {node.op_type for node in graph.node}
    config = small.network.config
    shapes = [tuple(tensor.dims) for tensor in graph.initializer]
    assert shapes.count((config.attention_channels, config.aggregation_channels, 1)) == 3


def test_weights_of_int8_layers_are_stored_as_int8(
    exported: tuple[Mask, torch.nn.Module, Path], small: Subject
) -> None:
    mask, _, path = exported
    graph = onnx.load(path).graph
    stored = [
        numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if not re.search("zero_point|scale", tensor.name)
    ]
    weights = sorted(x.size for x in stored if x.dtype == np.int8)
    layers = [*_int8_layers(mask)]
    layers += 2 * [layer for layer in layers if layer == BY_PARTS]
    sizes = [small.network.get_submodule(layer).weight.numel() for layer in layers]
    expected = [size // 3 if layer == BY_PARTS else size for layer, size in zip(layers, sizes, strict=True)]
    assert weights == sorted(expected)
    everything = sum(x.numel() for x in small.network.state_dict().values() if x.is_floating_point())
    assert sum(x.size for x in stored if x.dtype == np.float32) <= everything - sum(expected)


def test_quantization_is_symmetric(exported: tuple[Mask, torch.nn.Module, Path]) -> None:
    _, _, path = exported
    graph = onnx.load(path).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero_point = numpy_helper.to_array(stored[node.input[2]])
            assert zero_point.dtype == np.int8
            assert not zero_point.any()


def test_input_and_output_are_named_and_dynamic(exported: tuple[Mask, torch.nn.Module, Path]) -> None:
    _, _, path = exported
    graph = onnx.load(path).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["features", "embeddings"]
    dimensions = graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dimensions] == ["batch", 80, "time"]


def test_export_says_nothing_and_leaves_no_switch_behind(
    small: Subject, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_network(small.network, n_mels=80)
    assert not TensorQuantizer.use_fb_fake_quant
    assert capfd.readouterr() == ("", "")
    with pytest.raises(RuntimeError):
        export_network(small.network, n_mels=40)
    assert not TensorQuantizer.use_fb_fake_quant


def test_what_cannot_be_written_leaves_nothing(small: Subject, tmp_path: Path) -> None:
    table = CalibrationTable("max", {}, {})
    with pytest.raises(UserError, match="no ranges that fit input_conv"):
        write_model(
            small.network, tmp_path / "model.onnx", Mask(small.network.units(), {"input_conv": INT8}), table
        )
    assert [*tmp_path.iterdir()] == []


def test_one_graph_serves_every_mask(small: Subject, tmp_path: Path) -> None:
    graph = exported_network(small.network)
    before = graph.SerializeToString()
    for precision in (INT8, FP16, FP32):
        write_model(
            small.network, tmp_path / "model.onnx", Mask(small.network.units(), {"*": precision}), small.table
        )
    assert graph.SerializeToString() == before
    assert {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}.isdisjoint(
        {"QuantizeLinear", "DequantizeLinear", "Cast"}
    )


def test_half_layers_are_stored_and_computed_in_half(small: Subject, tmp_path: Path) -> None:
    mask = Mask(small.network.units(), {"aggregation_conv": FP16, "embedding_linear": FP16})
    write_model(small.network, tmp_path / "model.onnx", mask, small.table)
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    half = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    computed = [node.name for node in layers if set(node.input[1:]) <= half]
    assert computed == ["aggregation_conv/Conv", "embedding_linear/Gemm"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    features = small.recordings[0][np.newaxis]
    (embeddings,) = session.run(["embeddings"], {"features": features})
    with torch.inference_mode():
        reference = simulate(small.network, mask, small.table)(torch.from_numpy(features)).numpy()
    assert fidelity(embeddings, reference) >= 0.99999


def units_of(network: nn.Module) -> Units:
    """The units of a network that offers no more than what is exported."""
    return SpeakerNetwork.units(cast(SpeakerNetwork, network))


class Parts(nn.Module):
    """Concatenates frames of some widths with means over time of others."""

    def __init__(self, frames: tuple[int, ...], means: tuple[int, ...]) -> None:
        super().__init__()
        self.frames = nn.ModuleList(nn.Conv1d(80, width, 1) for width in frames)
        self.means = nn.ModuleList(nn.Conv1d(80, width, 1) for width in means)
        self.all = nn.Conv1d(sum((*frames, *means)), 5, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        mean = features.mean(dim=2, keepdim=True)
        means = [layer(mean).expand(-1, -1, features.shape[2]) for layer in self.means]
        frames = [layer(features) for layer in self.frames]
        return self.all(torch.cat([*frames, *means], dim=1)).flatten(1)


@pytest.mark.parametrize(
    ("frames", "means", "repeats"),
    [((4,), (4,), 0), ((6,), (2,), 1), ((5,), (2,), 1), ((), (4, 4), 2)],
    ids=str,
)
def test_parts_of_any_width_are_computed(
    frames: tuple[int, ...], means: tuple[int, ...], repeats: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Parts(frames, means).eval()
    features = torch.randn(2, 80, 30)
    mask = Mask(units_of(network), {"*": INT8})
    table = calibrate(network, [features], "max")
    write_mask(export_network(network, n_mels=80), mask, table, tmp_path / "model.onnx")
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node)
    assert kinds["Expand"] == repeats
    options = onnxruntime.SessionOptions()
    # It would fuse layers that follow each other directly into integer kernels, which saturate without VNNI.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    (embeddings,) = session.run(["embeddings"], {"features": features.numpy()})
    with torch.inference_mode():
        reference = simulate(network, mask, table)(features).numpy()
    assert fidelity(embeddings, reference) >= 0.9999


class BesideLayers(nn.Module):
    """A layer, beside products and convolutions that no mask reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(80, 8, 3, padding=1)
        self.own = nn.Parameter(torch.randn(8, 8))
        self.filter = nn.Parameter(torch.randn(8, 1, 3))
        self.least = nn.Parameter(torch.rand(8, 1, 1))
        self.norms = nn.ModuleList(nn.BatchNorm1d(8) for _ in range(3))
        for norm in self.norms:
            nn.init.uniform_(norm.weight, 0.3, 3)
        self.volume = nn.Conv3d(1, 1, 1)
        self.up = nn.ConvTranspose1d(8, 8, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        frames = self.up(self.conv(features))
        fixed = torch.tensor([[[0.25, 0.5, 0.25]]] * 8)
        filters = (self.filter.abs(), torch.maximum(self.filter, self.least), fixed)
        for norm, weight in zip(self.norms, filters, strict=True):
            frames = norm(nn.functional.conv1d(frames, weight, padding=1, groups=8))
        means = frames.mean(dim=2, keepdim=True).expand_as(frames)
        fixed = torch.tensor([[[0.5], [-0.2]] * 8])
        frames = frames * nn.functional.conv1d(torch.cat([frames, means], dim=1), fixed)
        seen = self.volume(frames[:, None, :, :, None])[:, 0, :, :, 0].mean(dim=2)
        return nn.functional.linear(seen, self.own, self.own[0])


def test_what_no_mask_reaches_stays_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, features = BesideLayers().eval(), torch.randn(2, 80, 30)
    units = units_of(network)
    assert [*units] == ["conv"] and [*units.unreached] == ["network", "volume", "up"]
    table = calibrate(network, [features], "max")
    for precision in ("int8", "int4"):
        mask = Mask(units, {"*": precision})
        write_mask(export_network(network, n_mels=80), mask, table, tmp_path / "model.onnx")
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
        (embeddings,) = session.run(["embeddings"], {"features": features.numpy()})
        with torch.inference_mode():
            reference = simulate(network, mask, table)(features).numpy()
        assert fidelity(embeddings, reference) >= 0.9999


class Repeated(nn.Module):
    """Runs a layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(80, 80, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv(self.conv(features).relu()).mean(dim=2)


def test_segments_cut_short_are_averaged_alike_by_older_runtimes() -> None:
    """ONNX Runtime before 1.29 divides by the length of a whole one where padding is said to count."""

    class Segments(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv1d(16, 8, 1)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return nn.functional.avg_pool1d(self.layer(features), 10, 10, ceil_mode=True).amax(dim=2)

    exported = export_network(Segments().eval(), 16)
    [pooling] = [node for node in exported.graph.node if node.op_type == "AveragePool"]
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in pooling.attribute}
    assert attributes.get("count_include_pad", 0) == 0
    assert (attributes["ceil_mode"], attributes["kernel_shape"]) == (1, [10])


def test_a_network_that_takes_long_recordings_only_is_exported() -> None:
    network = nn.Sequential(nn.Conv1d(16, 8, 1), nn.AvgPool1d(150), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    exported = export_network(network, 16, min_frames=150)
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    [embeddings] = session.run(None, {"features": np.zeros((3, 16, 200), np.float32)})
    assert embeddings.shape == (3, 8)


def test_a_layer_that_runs_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"conv: the network runs this layer 2 times.*layer of its own"):
        export_network(Repeated(), n_mels=80)
    layer = nn.Conv1d(80, 80, 1)
    with pytest.raises(UserError, match=r"0 and 1: one layer under two names.*layer of its own"):
        export_network(nn.Sequential(layer, layer, nn.AdaptiveAvgPool1d(1), nn.Flatten()), n_mels=80)


def test_layers_that_share_a_weight_are_refused_by_name() -> None:
    network = nn.Sequential(*(nn.Conv1d(80, 80, 1) for _ in range(3)), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    network[2].weight = network[0].weight
    with pytest.raises(UserError, match=r"^0 and 2: two layers share one weight.*give one a copy"):
        export_network(network, n_mels=80)
    network[2].weight = nn.Parameter(network[0].weight.detach().clone())
    export_network(network, n_mels=80)


@pytest.mark.parametrize(
    ("operation", "named"),
    [(lambda frames: frames.unfold(2, 4, 4).mean(3), "Unfold"), (torch.special.bessel_j0, "bessel_j0")],
    ids=["unfold", "bessel"],
)
def test_what_onnx_does_not_have_is_said_in_one_line(
    operation: Callable[[torch.Tensor], torch.Tensor], named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    class Unknown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv1d(16, 8, 1)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return operation(self.layer(features)).mean(dim=2)

    with pytest.raises(UserError, match=rf"^the network cannot be written as ONNX \(.*{named}[^.]*\); .*s$"):
        export_network(Unknown().eval(), 16)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("normalise", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_weights_that_are_computed_are_refused_by_name(normalise: Callable[[nn.Module], nn.Module]) -> None:
    network = nn.Sequential(nn.Conv1d(8, 8, 1), normalise(nn.Conv1d(8, 8, 1)))
    with pytest.raises(UserError, match=r"^1: its weight is computed, as by weight normalisation"):
        export_network(network, n_mels=8)
