"""Networks that come as ONNX files: what they compute, their units and front ends, and what is refused."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from conftest import write_model
from hydra.core.override_parser.overrides_parser import OverridesParser
from onnx import TensorProto, helper, numpy_helper
from onnx_files import TimeFirst, write_onnx
from torch import Tensor, nn
from toy_network import TOY, ToyConfig
from varied_network import VARIED, VariedConfig

from speakerquant.architectures.checkpoints import SpeakerModel, load_checkpoint, save_checkpoint
from speakerquant.architectures.ecapa_tdnn import ECAPA_TDNN
from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.layers import quantizable_layers, unreached_layers, unreached_share
from speakerquant.architectures.onnx_file.config import OnnxFileConfig
from speakerquant.architectures.onnx_file.layer_names import unit_names
from speakerquant.architectures.onnx_file.network import OnnxFileNetwork
from speakerquant.architectures.units import Granularity, Units
from speakerquant.audio.feature_extractor import FeatureExtractor
from speakerquant.audio.front_end import FrontEnd, FrontEndKind
from speakerquant.cache import Cache
from speakerquant.configuration.opening import open_model
from speakerquant.configuration.schema import ModelConfig
from speakerquant.engine.backends import engine_builder
from speakerquant.engine.onnxruntime.converted_network import check_converted
from speakerquant.errors import UserError
from speakerquant.measuring.check import fidelity
from speakerquant.measuring.embedding import check_frames, embed_with_network
from speakerquant.quantization.calibration import calibrate
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.ranges import CalibrationTable
from speakerquant.quantization.simulate import simulate

SHERPA = {
    "framework": "3d-speaker",
    "sample_rate": "16000",
    "normalize_samples": "1",
    "feature_normalize_type": "global-mean",
}


class Gated(nn.Module):
    """A block like TitaNet's: depthwise and pointwise convolutions, and a gate from the mean over time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, 7, padding=3, groups=channels, bias=False)
        self.pointwise = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.gate = nn.Sequential(nn.Linear(channels, 8), nn.ReLU(), nn.Linear(8, channels))

    def forward(self, frames: Tensor) -> Tensor:
        hidden = self.norm(self.pointwise(self.depthwise(frames)))
        gate = self.gate(hidden.mean(dim=2)).sigmoid()
        return torch.relu(frames + hidden * gate.unsqueeze(2))


class Titan(nn.Module):
    """Such blocks, pooling by the lengths of segments, mean and unbiased deviation, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(20, 24, 3, padding="same")
        self.blocks = nn.ModuleList([Gated(24) for _ in range(3)])
        self.embedding = nn.Linear(48, 16)

    def forward(self, frames: Tensor) -> Tensor:
        frames = self.stem(frames)
        for block in self.blocks:
            frames = block(frames)
        pooled = nn.functional.avg_pool1d(frames, 10, 10, ceil_mode=True)
        spread = pooled.unsqueeze(3).expand(-1, -1, -1, 10).reshape(frames.shape[0], 24, -1)
        frames = frames * spread[:, :, : frames.shape[2]].sigmoid()
        return self.embedding(torch.cat([frames.mean(2), frames.std(2)], 1))


class Extremes(nn.Module):
    """Pools by the largest and least values over time, and by the logarithm of the mean exponential."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(20, 24, 3, padding=1), nn.Conv1d(24, 24, 3, padding=1)
        self.embedding = nn.Linear(72, 16)

    def forward(self, frames: Tensor) -> Tensor:
        frames = self.second(torch.relu(self.first(frames)))
        smooth = frames.logsumexp(2) - math.log(frames.shape[2])
        return self.embedding(torch.cat([frames.amax(2), frames.amin(2), smooth], 1))


class Mean(nn.Module):
    """The mean over all axes behind the channels."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class Paired(nn.Module):
    """The mean over frames, taken by pairs."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames.reshape(frames.shape[0], 4, -1, 2).mean((2, 3))


class Baked(nn.Module):
    """Takes the length that it was exported with."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames.reshape(2, 4, 50).mean(2)


class Squeezed(nn.Module):
    """Loses the axis of a single recording."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(20, 4, 3)

    def forward(self, frames: Tensor) -> Tensor:
        return self.conv(frames).mean(2, keepdim=True).squeeze()


def by_hand(path: Path) -> Path:
    """``[B, bands, T]`` at opset 11, without names: padding by length, repeats, norms, a product."""
    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.standard_normal((8, 12, 4)) / 7,
        "w2": generator.standard_normal((16, 1, 3)) / 2,
        "w3": generator.standard_normal((16, 16, 3)) / 7,
        "w4": generator.standard_normal((16, 10)) / 4,
        "slope": np.full((8, 1), 0.1),
        "slopes": np.linspace(0, 2, 8),
        "roi": np.zeros(0),
        "scales": np.array([1, 1, 3]),
        "low": np.array(-0.5),
        "high": np.array(0.5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 2]),
        helper.make_node("PRelu", ["a", "slope"], ["b1"]),
        helper.make_node("Transpose", ["b1"], ["b2"], perm=[0, 2, 1]),
        helper.make_node("PRelu", ["b2", "slopes"], ["b3"]),
        helper.make_node("Transpose", ["b3"], ["b"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1], group=8, auto_pad="NOTSET"),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2], strides=[2], ceil_mode=1),
        helper.make_node(
            "Resize",
            ["d", "roi", "scales"],
            ["r"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Clip", ["r", "low", "high"], ["e"]),
        helper.make_node("AveragePool", ["e"], ["p"], kernel_shape=[3], strides=[2], auto_pad="SAME_LOWER"),
        helper.make_node("Conv", ["p", "w3"], ["q"], strides=[2], auto_pad="SAME_UPPER"),
        helper.make_node("LpNormalization", ["q"], ["n"], axis=1, p=1),
        helper.make_node("ReduceMean", ["n"], ["f"], axes=[-1], keepdims=0),
        helper.make_node("MatMul", ["f", "w4"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "by_hand",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 12, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 10])],
        [numpy_helper.from_array(np.float32(value), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), path)
    return path


def _ecapa() -> nn.Module:
    return TimeFirst(
        ECAPA_TDNN.build(
            EcapaTdnnConfig(
                channels=32, se_channels=8, aggregation_channels=48, attention_channels=16, embedding_dim=24
            )
        )
    )


PLACES = {
    name: np.array([number])
    for name, number in {
        **{"nought": 0, "one": 1, "two": 2, "three": 3, "twenty": 20, "back": -1},
        **{"most": 2**63 - 1, "least": -(2**63)},
    }.items()
}
FILES: dict[str, Callable[[Path], Path]] = {
    "ecapa": lambda path: write_onnx(_ecapa(), path, (2, 100, 80)),
    "varied": lambda path: write_onnx(VARIED.build(VariedConfig()), path, (2, 16, 100)),
    "titan": lambda path: write_onnx(Titan(), path, (2, 20, 100)),
    "extremes": lambda path: write_onnx(Extremes(), path, (2, 20, 100)),
    "by_hand": by_hand,
}


@pytest.fixture(scope="module", params=FILES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return FILES[request.param](tmp_path_factory.mktemp("files") / f"{request.param}.onnx")


@pytest.fixture(scope="module")
def network(file: Path) -> OnnxFileNetwork:
    return OnnxFileNetwork(OnnxFileConfig(str(file)))


@pytest.fixture(scope="module")
def titan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FILES["titan"](tmp_path_factory.mktemp("files") / "titan.onnx")


def test_it_computes_what_the_file_does_at_every_length(network: OnnxFileNetwork) -> None:
    check_converted(network)


@pytest.fixture(scope="module")
def recordings(network: OnnxFileNetwork) -> list[npt.NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    lengths = (network.min_frames + 1, 64, 131)
    return [generator.standard_normal((network.n_mels, frames)).astype(np.float32) for frames in lengths]


@pytest.fixture(scope="module")
def table(network: OnnxFileNetwork, recordings: list[npt.NDArray[np.float32]]) -> CalibrationTable:
    return calibrate(network, [torch.from_numpy(each) for each in recordings[1:]], "max")


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("engine_name", ["onnxruntime", "openvino"])
def test_masks_reach_it(
    network: OnnxFileNetwork,
    recordings: list[npt.NDArray[np.float32]],
    table: CalibrationTable,
    engine_name: str,
    precision: str,
    tmp_path: Path,
) -> None:
    mask, builder = Mask(network.units(), {"*": precision}), engine_builder(engine_name)
    weight_bits = builder.exact_weight_bits()
    write_model(network, tmp_path / "model.onnx", mask, table, weight_bits)
    with builder.build(tmp_path / "model.onnx") as engine:
        embeddings = np.stack(list(engine.embed_many(recordings)))
    simulated = embed_with_network(simulate(network, mask, table, weight_bits), recordings)
    assert fidelity(embeddings, simulated) >= (0.999 if precision == "int8" else 0.99999)


def test_every_layer_is_in_one_unit(network: OnnxFileNetwork) -> None:
    layers = [*quantizable_layers(network)]
    assert sorted(layer for unit in network.units().values() for layer in unit) == sorted(layers)
    assert [*network.units(Granularity.layer)] == layers


def test_units_are_the_modules_that_the_nodes_are_named_after(titan: Path) -> None:
    network = OnnxFileNetwork(OnnxFileConfig(str(titan)))
    assert {unit: len(layers) for unit, layers in network.units().items()} == {
        "stem": 1,
        "blocks.0": 4,
        "blocks.1": 4,
        "blocks.2": 4,
        "embedding": 1,
    }
    assert "blocks.0.gate.2" in network.units(Granularity.layer)


@pytest.mark.parametrize(
    ("layers", "units"),
    [
        ([f"conv{place}" for place in range(6)], 6),
        ([f"Conv_{place}" for place in range(40)], 8),
        ([f"encoder.{block}.{layer}" for block in range(6) for layer in range(4)] + ["head"], 7),
        ([f"net.a.{block}.{layer}" for block in range(9) for layer in range(4)], 9),
        ([f"encoder.layers.{block}.conv" for block in range(16)] + ["pool", "fc"], 10),
        ([f"features.{block}.0" for block in range(19)] + ["classifier.1"], 9),
    ],
)
def test_there_are_few_units(layers: list[str], units: int) -> None:
    assert len({*unit_names(dict.fromkeys(layers, 1)).values()}) == units


def test_units_of_many_alike_are_runs_of_them() -> None:
    """Each is a part of the module by its name, as masks take it, and a key that Hydra takes."""
    layers = {f"encoder.{block}.{layer}": 1 for block in range(13) for layer in ("conv1", "conv2")}
    units = unit_names({"stem": 1, **layers})
    names = [*dict.fromkeys(units.values())]
    assert names[:4] == ["stem", "encoder.part_0-1", "encoder.part_2-3", "encoder.4"]
    assert len(names) == 9
    assert units["encoder.1.conv2"] == "encoder.part_0-1"
    mask = Mask(Units({name: (name,) for name in names}), {"encoder": "int8", "encoder.part_2-3": "int4"})
    assert [*mask.names.values()][:4] == ["fp32", "int8", "int4", "int8"]
    [override] = OverridesParser.create().parse_overrides(["mask.encoder.part_2-3=int4"])
    assert override.key_or_group == "mask.encoder.part_2-3"


def test_it_is_opened_and_saved_like_any_other(titan: Path, tmp_path: Path) -> None:
    model = _opened(titan, tmp_path, FrontEnd(n_mels=20))
    save_checkpoint(tmp_path / "saved.safetensors", model.network, model.front_end)
    again = load_checkpoint(tmp_path / "saved.safetensors")
    features = torch.randn(1, 20, 80)
    assert torch.allclose(again.network(features), model.network(features), atol=1e-2)
    assert again.front_end == model.front_end


def _convolutions(path: Path, names: Sequence[str], bias: npt.NDArray[np.float32]) -> Path:
    """Convolutions by nodes of these names, the mean over time, and a linear layer with that bias."""
    generator = np.random.default_rng(0)
    weights = {f"w{place}": generator.standard_normal((20, 20, 3)) / 8 for place in range(len(names))}
    values = {**weights, "w": generator.standard_normal((6, 20)), "bias": bias}
    nodes = [
        helper.make_node("Conv", [f"h{place}", f"w{place}"], [f"h{place + 1}"], name, pads=[1, 1])
        for place, name in enumerate(names)
    ]
    mean = helper.make_node("GlobalAveragePool", [f"h{len(names)}"], ["a"])
    flat = helper.make_node("Flatten", ["a"], ["m"])
    graph = helper.make_graph(
        [*nodes, mean, flat, helper.make_node("Gemm", ["m", "w", "bias"], ["y"], "/last/Gemm", transB=1)],
        "convolutions",
        [helper.make_tensor_value_info("h0", TensorProto.FLOAT, ["B", 20, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 6])],
        [numpy_helper.from_array(np.float32(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("nodes", "layers"),
    [
        (["/conv/Conv", "/conv/Conv_1", "/conv_1/Conv"], ["conv", "conv_2", "conv_1"]),
        (["/conv/Conv", "/conv/Conv_1", "/conv_1/proj/Conv"], ["conv", "conv_2", "conv_1.proj"]),
        (["/config/Conv", "/type/Conv", "/layout/Conv"], ["config_", "type_", "layout_"]),
        (["/units/a/Conv", "/a/train/Conv", "/constant1/Conv"], ["units_.a", "a.train_", "constant1_"]),
        (["net/a/Conv2D", "net/b/c/Conv2D", "net/b/c/Conv2D_1"], ["net.a", "net.b.c", "net.b.c_1"]),
    ],
)
def test_every_layer_has_a_name_of_its_own(nodes: list[str], layers: list[str], tmp_path: Path) -> None:
    path = _convolutions(tmp_path / "model.onnx", nodes, np.ones((1, 6), np.float32))
    network = OnnxFileNetwork(OnnxFileConfig(str(path), n_mels=20))
    check_converted(network)
    assert [*quantizable_layers(network)] == [*layers, "last"]


@pytest.mark.parametrize(
    ("weight", "scopes", "layer"),
    [
        ("val_2", "['', 'enc', 'enc.layers.0', 'enc.layers.0.linear1', 'linear_3']", "enc.layers.0.linear1"),
        ("val_2", "['', 'linear_3']", "node_MatMul_3"),
        ("val_2", "['', 'enc', print('enc'), 'linear_3']", "node_MatMul_3"),
        ("val_2", "['enc', 'linear_3'", "node_MatMul_3"),
        ("enc.attn.out.weight", "['', 'enc', 'enc.attn', 'linear_3']", "enc.attn.out"),
    ],
)
def test_a_product_has_the_name_that_the_newer_exporter_writes_beside_it(
    weight: str, scopes: str, layer: str, tmp_path: Path
) -> None:
    product = helper.make_node("MatMul", ["f", weight], ["g"], "node_MatMul_3")
    product.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    nodes = [
        helper.make_node("Transpose", ["h1"], ["f"], perm=[0, 2, 1]),
        product,
        helper.make_node("Transpose", ["g"], ["h"], perm=[0, 2, 1]),
    ]
    path = _with_nodes(tmp_path, nodes, {weight: np.ones((20, 20), np.float32)})
    network = OnnxFileNetwork(OnnxFileConfig(str(path), n_mels=20))
    assert [*quantizable_layers(network)] == ["conv", layer, "last"]


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Dropout", ["h1"], ["h", "mask"])],
        [helper.make_node("MaxPool", ["h1"], ["h", "places"], kernel_shape=[3], strides=[2])],
        [helper.make_node("Conv", ["h1", "w0", ""], ["h"], "/second/Conv", pads=[1, 1])],
        [
            helper.make_node("Shape", ["h1"], ["s"]),
            helper.make_node("Clip", ["s", "least length"], ["c"]),
            helper.make_node("Reshape", ["h1", "c"], ["h"]),
        ],
        [
            helper.make_node("Shape", ["h1"], ["s"]),
            helper.make_node("Slice", ["s", "two", "three"], ["t"]),
            helper.make_node("Concat", ["nought", "twenty", "t"], ["c"], axis=0),
            helper.make_node("Reshape", ["h1", "c"], ["h"]),
        ],
        [helper.make_node("Gather", ["h1", "both ends"], ["h"], axis=2)],
        [helper.make_node("Split", ["h1"], ["g", "h"], axis=2, num_outputs=2)],
        *(
            [helper.make_node(kind, ["h1"], ["h"], kernel_shape=[2], strides=[3], pads=pads, ceil_mode=1)]
            for kind in ("MaxPool", "AveragePool")
            for pads in ([0, 0], [1, 1])
        ),
        [helper.make_node("Conv", ["h1", "w0"], ["h"], "/second/Conv", strides=[2], auto_pad="SAME_LOWER")],
        *(
            [
                helper.make_node(
                    kind, ["h1"], ["h"], kernel_shape=[3], strides=[2], auto_pad="SAME_UPPER", **more
                )
            ]
            for kind, more in (
                ("MaxPool", {}),
                ("AveragePool", {}),
                ("AveragePool", {"count_include_pad": 1}),
            )
        ),
        [
            helper.make_node("Size", ["h1"], ["s"]),
            helper.make_node("Cast", ["s"], ["c"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["h1", "c"], ["h"]),
        ],
        [helper.make_node("LpNormalization", ["h1"], ["h"])],
        [
            helper.make_node("Unsqueeze", ["h1", "one"], ["u"]),
            helper.make_node("Concat", ["u", "u"], ["v"], axis=1),
            helper.make_node("Split", ["v"], ["g", "k"], axis=1, num_outputs=2),
            helper.make_node("Squeeze", ["k", "one"], ["h"]),
        ],
        [
            helper.make_node("Shape", ["h1"], ["s"]),
            helper.make_node("Slice", ["s", "two", "three"], ["t"]),
            helper.make_node("Mod", ["t", "two"], ["e"]),
            helper.make_node("Concat", ["nought"] * 5 + ["e"], ["p"], axis=0),
            helper.make_node("Pad", ["h1", "p"], ["h"]),
        ],
        [helper.make_node("Slice", ["h1", "one", "most", "two", ""], ["h"])],
        *([helper.make_node(kind, ["h1"], ["h"])] for kind in ("Celu", "Mish", "Selu", "Softsign")),
        [helper.make_node("Swish", ["h1"], ["h"], alpha=1.5)],
        [helper.make_node("ThresholdedRelu", ["h1"], ["h"], alpha=0.5)],
        [helper.make_node("GroupNormalization", ["h1", "scales", "scales"], ["h"], num_groups=4)],
        [helper.make_node("RMSNormalization", ["h1", "scale"], ["h"], axis=1)],
        [
            helper.make_node("Reshape", ["h1", "heads"], ["u"]),
            helper.make_node("Transpose", ["u"], ["q"], perm=[0, 1, 3, 2]),
            helper.make_node("Shape", ["h1"], ["s"]),
            helper.make_node("Slice", ["s", "two", "three"], ["t"]),
            helper.make_node("Concat", ["t", "t"], ["tt"], axis=0),
            helper.make_node("Expand", ["unit", "tt"], ["ones"]),
            helper.make_node("Trilu", ["ones", "five before"], ["part"]),
            helper.make_node("Cast", ["part"], ["mask"], to=TensorProto.BOOL),
            helper.make_node("Attention", ["q", "q", "q", "mask"], ["at"], is_causal=1),
            helper.make_node("Transpose", ["at"], ["k"], perm=[0, 1, 3, 2]),
            helper.make_node("Reshape", ["k", "channels"], ["h"]),
        ],
        *(
            [helper.make_node("Slice", ["h1", start, end, "two", "back"], ["h"])]
            for start, end in (("back", "least"), ("back", "two"), ("most", "nought"), ("three", "least"))
        ),
    ],
    ids=[
        *("mask", "places", "no bias", "clipped length", "copied size", "ends", "halves"),
        *(f"{kind}, last window {where}" for kind in ("max", "mean") for where in ("behind", "in padding")),
        *(f"same {kind}" for kind in ("convolution", "max", "mean", "mean with padding")),
        *("size", "norm", "split and squeezed"),
        *("padded to even", "no steps"),
        *("celu", "mish", "selu", "softsign", "swish", "thresholded", "groups", "rms", "attention"),
        *(f"backwards {n}" for n in range(4)),
    ],
)
def test_what_exporters_write_is_converted(nodes: list[onnx.NodeProto], tmp_path: Path) -> None:
    values = PLACES | {"least length": np.array(1), "both ends": np.array([0, 1, -2, -1])}
    values |= {"heads": np.array([0, 2, 10, -1]), "channels": np.array([0, 20, -1])}
    values |= {"five before": np.array(-5), "unit": np.ones(1, np.float32), "scale": np.ones(1, np.float32)}
    values |= {"scales": np.linspace(-1, 2, 20, dtype=np.float32)}
    path = _with_nodes(tmp_path, nodes, values)
    network = OnnxFileNetwork(OnnxFileConfig(str(path), n_mels=20))
    check_converted(network)
    write_model(network, path)
    check_converted(OnnxFileNetwork(OnnxFileConfig(str(path), n_mels=20)))


def _with_nodes(
    folder: Path, nodes: Sequence[onnx.NodeProto], values: Mapping[str, npt.NDArray[Any]]
) -> Path:
    """A network with nodes from ``h1`` to ``h`` amid it, and what they name."""
    path = _convolutions(folder / "model.onnx", ["/conv/Conv"], np.ones(6, np.float32))
    model = onnx.load(path)
    convolution, mean, flat, linear = model.graph.node
    mean.input[0] = "h"
    del model.graph.node[:]
    model.graph.node.extend([convolution, *nodes, mean, flat, linear])
    model.opset_import[0].version = 24
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    onnx.save(model, path)
    return path


def _positions(name: str) -> list[onnx.NodeProto]:
    """The first of stored positions, as many as there are frames, added to these."""
    return [
        helper.make_node("Shape", ["h1"], ["s"]),
        helper.make_node("Slice", ["s", "two", "three"], ["t"]),
        helper.make_node("Slice", [name, "nought", "t", "two"], ["p"]),
        helper.make_node("Add", ["h1", "p"], ["h"]),
    ]


@pytest.mark.parametrize(
    ("nodes", "table", "shape", "place"),
    [
        ([helper.make_node("MatMul", ["l", "h1"], ["h"])], "l", (20, 20), "l"),
        (
            [helper.make_node("Einsum", ["h1", "l"], ["h"], equation="bct,dc->bdt")],
            *("l", (20, 20), "l"),
        ),
        (
            [
                helper.make_node("Transpose", ["h1"], ["f"], perm=[0, 2, 1]),
                helper.make_node("MatMul", ["f", "l"], ["g"]),
                helper.make_node("Transpose", ["g"], ["h"], perm=[0, 2, 1]),
            ],
            *("l", (1, 20, 20), "l"),
        ),
        (_positions("enc/pos.weight"), "enc/pos.weight", (1, 20, 300), "enc_pos.weight"),
        (_positions("conv.positions"), "conv.positions", (1, 20, 300), "conv_positions"),
    ],
    ids=["on the left", "einsum", "of three axes", "positions", "named as in a layer"],
)
def test_weights_that_no_mask_reaches_are_said(
    nodes: list[onnx.NodeProto], table: str, shape: tuple[int, ...], place: str, tmp_path: Path
) -> None:
    """By the names that they have in the file."""
    path = _with_nodes(tmp_path, nodes, {table: np.ones(shape, np.float32), **PLACES})
    network = OnnxFileNetwork(OnnxFileConfig(str(path), n_mels=20))
    size = math.prod(shape)
    assert unreached_share(network) == size / (size + 20 * 20 * 3 + 20 * 6)
    assert [*unreached_layers(network)] == [place]


def test_recordings_beyond_its_longest_length_are_named(tmp_path: Path) -> None:
    """Found exactly, where the file stores so many positions."""
    positions = {"pos": np.ones((1, 20, 300), np.float32), **PLACES}
    path = _with_nodes(tmp_path, _positions("pos"), positions)
    network = OnnxFileNetwork(OnnxFileConfig(str(path), n_mels=20))
    check_converted(network)
    recordings = [Path("a.wav"), Path("b.wav")]
    check_frames(network, recordings, [300, 20])
    with pytest.raises(UserError, match=r"a\.wav: 301 frames, and the network takes 300 at most; cut"):
        check_frames(network, recordings, [301, 20])


@pytest.mark.parametrize(
    ("axes", "time_last", "is_said"),
    [
        (("B", "T", "F"), False, True),
        (("B", "bands", "num_frames"), True, True),
        (("B", "x", "y"), False, False),
        (("B", "x", 20), False, True),
        (("B", 20, "x"), True, True),
        ((-1, 20, -1), True, True),
    ],
)
def test_the_axis_of_time_is_told_by_names_and_sizes(
    axes: tuple[str | int, ...],
    time_last: bool,
    is_said: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of a network of images, which takes both for features."""
    path = tmp_path / "model.onnx"
    write_onnx(
        nn.Sequential(nn.Unflatten(1, (1, -1)), nn.Conv2d(1, 4, 3), Mean(), nn.Linear(4, 6)),
        path,
        (2, 20, 30),
    )
    model = onnx.load(path)
    for axis, said in zip(model.graph.input[0].type.tensor_type.shape.dim, axes, strict=True):
        axis.Clear()
        setattr(axis, "dim_value" if isinstance(said, int) else "dim_param", said)
    onnx.save(model, path)
    assert OnnxFileNetwork(OnnxFileConfig(str(path), n_mels=20)).layout.time_last == time_last
    assert ("is taken for the first" in caplog.text) != is_said


def test_weights_stored_beside_it_are_a_part_of_its_digest(titan: Path, tmp_path: Path) -> None:
    """In a folder below its own, too."""
    path, digests = tmp_path / "model.onnx", set()
    (tmp_path / "below").mkdir()
    for factor in (1, 2):
        model = onnx.load(titan)
        for stored in model.graph.initializer:
            values = numpy_helper.to_array(stored)
            if values.dtype.kind == "f":
                stored.CopyFrom(numpy_helper.from_array(values * np.float32(factor), stored.name))
        (tmp_path / "below" / "weights.bin").unlink(missing_ok=True)
        onnx.save(model, path, save_as_external_data=True, location="below/weights.bin", size_threshold=0)
        digests.add((path.read_bytes(), _opened(path, tmp_path, FrontEnd(n_mels=20)).digest))
    assert len({contents for contents, _ in digests}) == 1
    assert len(digests) == 2


def test_functions_that_it_defines_are_replaced_by_what_they_do(titan: Path, tmp_path: Path) -> None:
    """With weights stored beside it, and with what it says of itself."""
    model, path = onnx.load(_with_metadata(titan, tmp_path, SHERPA)), tmp_path / "model.onnx"
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("nn", 1)]
    activation = helper.make_node("Relu", ["x"], ["y"])
    model.functions.append(helper.make_function("nn", "Activation", ["x"], ["y"], [activation], domains))
    model.opset_import.append(domains[1])
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = "Activation", "nn"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    opened = _opened(path, tmp_path)
    assert opened.front_end == _opened(tmp_path / "described.onnx", tmp_path).front_end
    features = torch.randn(1, 20, 80)
    assert torch.equal(opened.network(features), OnnxFileNetwork(OnnxFileConfig(str(titan)))(features))


def test_weights_may_lie_beside_a_link_to_it(titan: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load(titan), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    path.rename(tmp_path / "elsewhere" / "blob")
    path.symlink_to(tmp_path / "elsewhere" / "blob")
    assert _opened(path, tmp_path, FrontEnd(n_mels=20)).network.n_mels == 20


@pytest.mark.parametrize("shape", [(6,), (1, 6), (1,), (1, 1), ()])
def test_the_bias_of_a_linear_layer_may_have_any_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    bias = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    path = _convolutions(tmp_path / "model.onnx", ["/conv/Conv"], bias)
    network = OnnxFileNetwork(OnnxFileConfig(str(path), n_mels=20))
    check_converted(network)
    assert [*quantizable_layers(network)] == ["conv", "last"]


@pytest.mark.parametrize(
    ("keys", "scale", "subtract_mean"),
    [
        ({}, 1, True),
        ({"framework": "wespeaker", "normalize_samples": "0"}, 32768, True),
        ({"feature_normalize_type": ""}, 1, False),
    ],
)
def test_metadata_of_sherpa_onnx_says_the_front_end(
    titan: Path, tmp_path: Path, keys: dict[str, str], scale: int, subtract_mean: bool
) -> None:
    path = _with_metadata(titan, tmp_path, SHERPA | keys)
    front_end = _opened(path, tmp_path).front_end
    assert (front_end.kind, front_end.window, front_end.n_mels) == ("kaldi", "povey", 20)
    assert (front_end.waveform_scale, front_end.subtract_mean) == (scale, subtract_mean)
    features = FeatureExtractor(front_end).extract(
        np.random.default_rng(0).normal(size=16000).astype(np.float32)
    )
    assert (abs(features.mean()) < 1e-4) == subtract_mean


def _opened(file: Path, folder: Path, front_end: FrontEnd | None = None) -> SpeakerModel:
    return open_model(ModelConfig(checkpoint=str(file), front_end=front_end), Cache(folder / "cache"))


def _with_metadata(file: Path, folder: Path, metadata: dict[str, str]) -> Path:
    model = onnx.load(file)
    helper.set_model_props(model, metadata)
    onnx.save(model, folder / "described.onnx")
    return folder / "described.onnx"


def _changed(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path, Path], None]:
    def write(source: Path, path: Path) -> None:
        model = onnx.load(source)
        change(model)
        onnx.save(model, path)

    return write


def _first(model: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == operator)


def _without_external_data(source: Path, path: Path) -> None:
    onnx.save(onnx.load(source), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (path.parent / "weights.bin").unlink()


def _outside(source: Path, path: Path) -> None:
    _without_external_data(source, path)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    path.write_bytes(model.SerializeToString())


def _another(network: nn.Module, shape: tuple[int, ...]) -> Callable[[Path, Path], None]:
    return lambda _, path: write_onnx(network, path, shape, dynamic=False)  # type: ignore[func-returns-value]


REFUSED: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "no ONNX": (lambda _, path: path.write_bytes(b"nothing"), "no ONNX file"),
    "cut": (lambda source, path: path.write_bytes(source.read_bytes()[:2000]), "no ONNX file, or damaged"),
    "images": (_another(nn.Conv2d(3, 4, 3), (1, 3, 32, 32)), "has 4 axes, as images"),
    "waveforms": (_another(nn.Conv1d(1, 4, 3), (1, 1, 400)), "has 3 axes, as waveforms of one channel"),
    "length": (
        _another(nn.Sequential(nn.Conv1d(80, 4, 3), nn.Flatten(), nn.Linear(4 * 48, 8)), (1, 80, 50)),
        "axis 2 (time) of its input is fixed to 50; export the network with dynamic_axes for batch and time, "
        "or, where the exporter fixed it although you gave dynamic_axes, export with dynamo=True",
    ),
    "length of 200": (
        _another(nn.Sequential(nn.Conv1d(80, 4, 3), nn.Flatten(), nn.Linear(4 * 198, 8)), (1, 80, 200)),
        "axis 2 (time) of its input is fixed to 200",
    ),
    "length fixed by the exporter": (
        lambda _, path: write_onnx(nn.Sequential(nn.Conv1d(20, 4, 1), Baked()), path, (2, 20, 50)),
        "(Reshape) cannot be run (shape '[2, 4, 50]' is invalid for input of size 1600); as exported it may",
    ),
    "recurrent": (_changed(lambda m: setattr(_first(m, "Relu"), "op_type", "LSTM")), "(LSTM): a recurrent"),
    "control flow": (_changed(lambda m: setattr(_first(m, "Relu"), "op_type", "If")), "(If): control flow"),
    "unknown": (
        _changed(lambda m: setattr(_first(m, "Relu"), "op_type", "NonZero")),
        "gate.1/Relu (NonZero): an operator that cannot be converted; export the network without it",
    ),
    "unknown in older opsets": (
        _changed(lambda m: setattr(_first(m, "Relu"), "op_type", "AffineGrid")),
        "an operator that cannot be converted; export the network without it, such as with opset_version=18",
    ),
    "quantized": (
        _changed(lambda m: setattr(_first(m, "Conv"), "op_type", "QLinearConv")),
        "(QLinearConv): it is quantized already",
    ),
    "contrib": (
        _changed(lambda m: setattr(_first(m, "Relu"), "domain", "com.microsoft")),
        "of com.microsoft",
    ),
    "opset": (_changed(lambda m: setattr(m.opset_import[0], "version", 9)), "opset 9, and 11 to 25"),
    "outputs": (
        _changed(lambda m: m.graph.output.append(helper.make_tensor_value_info("/Mul_output_0", 1, None))),
        "it has 2 outputs (embs, /Mul_output_0); keep the embedding alone, with onnx.utils.extract_model, "
        "and copy metadata_props",
    ),
    "inputs": (
        _changed(lambda m: m.graph.input.append(helper.make_tensor_value_info("lengths", 7, [1]))),
        "it has 2 inputs (feats, lengths)",
    ),
    "no embedding": (_another(nn.Conv1d(20, 4, 3, padding=1), (1, 20, 50)), "its output embs is [2, 4, 200]"),
    "even lengths": (
        lambda _, path: write_onnx(nn.Sequential(nn.Conv1d(20, 4, 1), Paired()), path, (2, 20, 50)),
        "it takes 200 frames and not 251; give a network of any length, or, where the exporter fixed it",
    ),
    "cast": (
        _changed(
            lambda m: (relu := _first(m, "Relu")).CopyFrom(
                helper.make_node("Cast", relu.input, relu.output, to=TensorProto.FLOAT16)
            )
        ),
        "cast to FLOAT16",
    ),
    "no batch of one": (
        lambda _, path: write_onnx(Squeezed(), path, (2, 20, 50)),
        "its output embs is [4] for one recording of 200 frames; give a network",
    ),
    "text": (
        _changed(lambda m: m.graph.node.insert(0, helper.make_node("Constant", [], ["t"], value_string="a"))),
        "(Constant): it holds no tensor of numbers",
    ),
    "no weights": (_another(nn.AdaptiveAvgPool1d(1), (1, 20, 50)), "nothing to quantize"),
    "external data": (_without_external_data, "its external data cannot be read"),
    "path outside": (_outside, "its external data cannot be read"),
    "no front end": (_changed(lambda m: None), "it has no metadata of sherpa-onnx; choose model/front_end="),
    "nemo": (
        _changed(lambda m: helper.set_model_props(m, SHERPA | {"framework": "nemo"})),
        "framework nemo, whose features are unknown",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(titan: Path, tmp_path: Path, name: str) -> None:
    write, message = REFUSED[name]
    path = tmp_path / "model.onnx"
    write(titan, path)
    with pytest.raises(UserError) as raised:
        _opened(path, tmp_path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_family_is_of_no_use_for_an_onnx_file_however_it_is_spelt(titan: Path, tmp_path: Path) -> None:
    path = tmp_path / "TITAN.ONNX"
    path.write_bytes(titan.read_bytes())
    assert _opened(path, tmp_path, FrontEnd(n_mels=20)).network.n_mels == 20
    with pytest.raises(UserError, match="not a checkpoint of family wespeaker; give model=onnx, and if"):
        load_checkpoint(path, family="wespeaker")


def test_inputs_that_are_far_more_than_frequencies_are_no_mel_bands(tmp_path: Path) -> None:
    telephone = FrontEnd(FrontEndKind.kaldi, 8000, n_fft=256, win_length=200, hop_length=80, f_max=3600)
    for n_mels in (128, 768):
        write_onnx(TOY.build(ToyConfig(n_mels)), tmp_path / f"{n_mels}.onnx", (2, n_mels, 1000))
    few, many = (replace(telephone, n_mels=n_mels) for n_mels in (128, 768))
    assert _opened(tmp_path / "128.onnx", tmp_path, few).front_end == few
    with pytest.raises(UserError, match=r"768\.onnx: 768 mel bands, of which 5\d\d hold no frequency"):
        _opened(tmp_path / "768.onnx", tmp_path, many)


def test_other_bands_than_the_front_ends_are_refused(titan: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="network of 20 mel bands, front end of 80"):
        _opened(titan, tmp_path, FrontEnd())
