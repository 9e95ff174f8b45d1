"""The network that TensorRT is given computes the same, in the form that TensorRT quantizes."""

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from conftest import Subject, exported_network, write_model
from onnx import TensorProto
from torch import Tensor, nn

from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn
from speakerquant.architectures.layers import LayerGeometry, LayerKind, QuantizableLayer, quantizable_layers
from speakerquant.engine.backends import REFERENCE, engine_builder
from speakerquant.engine.tensorrt.packed_products import stays_packed
from speakerquant.engine.tensorrt.tensorrt_graph import adapt, computes_in_half, is_quantized
from speakerquant.engine.tensorrt.tensorrt_rtx_graph import convolve_groups_apart, quantize_in_equal_steps
from speakerquant.graph.export import export_network
from speakerquant.graph.masking import apply_mask
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP16, FP32, INT4, INT8, Precision
from speakerquant.quantization.ranges import CalibrationTable

NUM_CONVOLUTIONS = 28  # 26 layers, one of them in three parts
MASKS = {
    "none": [],
    "mixed": ["input_conv", "se_res2block2", "attentive_pooling"],
    "all": [
        *("input_conv", "se_res2block1", "se_res2block2", "se_res2block3"),
        *("aggregation_conv", "attentive_pooling", "embedding_linear"),
    ],
}


@pytest.fixture(params=MASKS)
def exported(request: pytest.FixtureRequest, small: Subject) -> onnx.ModelProto:
    return _masked(small, {"*": FP32, **dict.fromkeys(MASKS[request.param], INT8)})


@pytest.fixture(params=MASKS)
def half(request: pytest.FixtureRequest, small: Subject) -> onnx.ModelProto:
    """The same masks with FP16 in place of FP32."""
    return _masked(small, {"*": FP16, **dict.fromkeys(MASKS[request.param], INT8)})


def test_computes_the_same(exported: onnx.ModelProto, small: Subject) -> None:
    _assert_computes_the_same(exported, small, tolerance=1e-5)


def test_computes_the_same_in_half(half: onnx.ModelProto, small: Subject) -> None:
    _assert_computes_the_same(half, small, tolerance=2e-2)


def _assert_computes_the_same(exported: onnx.ModelProto, small: Subject, tolerance: float) -> None:
    features = small.recordings[0][np.newaxis].repeat(2, axis=0)
    expected = _run(exported, features)
    adapt(exported)
    onnx.checker.check_model(exported, full_check=True)
    embeddings = _run(exported, features)
    assert embeddings.shape == expected.shape
    assert np.linalg.norm(embeddings - expected) <= tolerance * np.linalg.norm(expected)


def test_every_layer_is_two_dimensional_and_meets_its_quantizers(exported: onnx.ModelProto) -> None:
    num_quantized = sum(node.op_type == "QuantizeLinear" for node in exported.graph.node)
    adapt(exported)
    graph = exported.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type == "Conv"]
    assert len(layers) == NUM_CONVOLUTIONS
    quantized = [node for node in layers if node.input[1] not in initializers]
    assert len(quantized) == num_quantized
    for node in layers:
        sources = [producers.get(name) for name in node.input[:2]]
        if node not in quantized:
            assert len(initializers[node.input[1]].dims) == 4
            continue
        for dequantize in sources:
            assert dequantize is not None and dequantize.op_type == "DequantizeLinear"
            assert producers[dequantize.input[0]].op_type == "QuantizeLinear"
        weight = initializers[producers[producers[node.input[1]].input[0]].input[0]]
        assert (weight.data_type, len(weight.dims)) == (TensorProto.FLOAT, 4)
    assert is_quantized(exported) == bool(quantized)


def test_fp16_is_for_the_layers_without_quantizers(half: onnx.ModelProto) -> None:
    num_plain = NUM_CONVOLUTIONS - sum(node.op_type == "QuantizeLinear" for node in half.graph.node)
    adapt(half)
    kernels = [tensor for tensor in half.graph.initializer if len(tensor.dims) == 4]
    assert sum(tensor.data_type == TensorProto.FLOAT16 for tensor in kernels) == num_plain
    assert computes_in_half(half) == bool(num_plain)


def test_equal_weights_may_have_one_name(small: Subject) -> None:
    """The exporter stores tensors of equal values once, and gives them further names by Identity."""
    network = copy.deepcopy(small.network)
    for layer in quantizable_layers(network).values():
        torch.nn.init.zeros_(layer.bias)
    network_graph = export_network(network, n_mels=80)
    zeros = [tensor for tensor in network_graph.graph.initializer if tensor.name.endswith(".bias")]
    assert len(zeros) < len(quantizable_layers(network))  # stored once for all layers of that width
    int8 = dict.fromkeys(MASKS["mixed"], INT8)
    expected = _run(
        apply_mask(network_graph, Mask(network.units(), int8), small.table), small.recordings[0][np.newaxis]
    )
    for rest in (FP32, FP16):
        adapted = apply_mask(network_graph, Mask(network.units(), {"*": rest, **int8}), small.table)
        adapt(adapted)
        names = [tensor.name for tensor in adapted.graph.initializer]
        assert len(names) == len(set(names))
        embeddings = _run(adapted, small.recordings[0][np.newaxis])
        assert np.linalg.norm(embeddings - expected) <= 2e-2 * np.linalg.norm(expected)


@pytest.mark.parametrize("difference", [{"padding": "reflect"}, {"unbiased_context": True}], ids=str)
def test_the_differences_of_other_families(
    difference: dict[str, object], small: Subject, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = EcapaTdnn(dataclasses.replace(small.network.config, **difference)).eval()
    features = small.recordings[0][np.newaxis]
    write_model(network, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    expected = network(torch.from_numpy(features)).detach().numpy()
    adapt(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(_run(model, features), expected, rtol=1e-4, atol=1e-5)


class Between(nn.Module):
    """A layer along time between operations that do not compute the same on images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.linear = nn.Linear(8, 4)

    def forward(self, features: Tensor) -> Tensor:
        maps = self.conv(features.flip(1)[..., ::2].relu())
        other_rank = maps + maps.mean(0) * torch.arange(8.0).unsqueeze(1)
        last_first = torch.cat([other_rank.transpose(1, 2), maps.softmax(-1).transpose(1, 2)], dim=-2)
        pooled = last_first.mean(-2) - maps.amax(dim=(-1, -2), keepdim=True).squeeze(-1)
        embeddings: Tensor = self.linear(pooled)
        return embeddings / embeddings.sum()


@pytest.mark.parametrize("precision", [FP32, INT8], ids=str)
def test_operations_that_know_axes_keep_them(precision: Precision) -> None:
    torch.manual_seed(0)
    masked = _masked_layers(Between().eval(), 8, precision)
    features = np.random.default_rng(0).standard_normal((2, 8, 60)).astype(np.float32)
    expected = _run(masked, features)
    adapt(masked)
    onnx.checker.check_model(masked, full_check=True)
    np.testing.assert_allclose(_run(masked, features), expected, rtol=1e-4, atol=1e-5)


class SplitElsewhere(nn.Module):
    """Convolutions that are split, but not into what a convolution of its own computes each of."""

    def __init__(self) -> None:
        super().__init__()
        self.bands = nn.Conv2d(1, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)

    def forward(self, features: Tensor) -> Tensor:
        low, high = self.bands(features.unsqueeze(1)).split(4, dim=2)
        first, second = self.grouped(low * high).split([2, 6], dim=1)
        embeddings: Tensor = torch.cat([first.mean((2, 3)), second.amax((2, 3))], dim=1)
        return embeddings


def test_other_splits_stay() -> None:
    torch.manual_seed(0)
    masked = _masked_layers(SplitElsewhere().eval(), 8, FP32)
    features = np.random.default_rng(0).standard_normal((2, 8, 60)).astype(np.float32)
    expected = _run(masked, features)
    adapt(masked)
    convolve_groups_apart(masked)
    np.testing.assert_allclose(_run(masked, features), expected, rtol=1e-4, atol=1e-5)


class OneLayer(nn.Module):
    """A layer of 640 features, as 64 channels of 10 bands if it is a convolution over images."""

    def __init__(self, layer: QuantizableLayer) -> None:
        super().__init__()
        self.layer = layer
        self.kind = LayerGeometry.of(layer).kind

    def forward(self, features: Tensor) -> Tensor:
        if self.kind is LayerKind.linear:
            features = features.mean(2)
        elif self.kind is LayerKind.conv2d:
            features = features.unflatten(1, (64, 10))
        embeddings: Tensor = self.layer(features).tanh()
        return embeddings


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(640, 128, 1),
        nn.Conv1d(640, 32, 5, stride=2, dilation=3, padding=4),
        nn.Conv2d(64, 128, 3, stride=(2, 1), dilation=(1, 2), padding=(0, 3), bias=False),
        nn.Conv2d(64, 1024, 1, stride=2),
        nn.Linear(640, 128),
    ],
    ids=str,
)
def test_layers_of_four_bits_are_packed_products(layer: QuantizableLayer, tmp_path: Path) -> None:
    masked = _masked_layers(OneLayer(layer), 640, INT4)
    features = np.random.default_rng(0).standard_normal((2, 640, 30)).astype(np.float32)
    onnx.save(masked, tmp_path / "masked.onnx")
    adapt(masked)
    onnx.checker.check_model(masked, full_check=True)
    onnx.save(masked, tmp_path / "adapted.onnx")
    expected, embeddings = (
        engine_builder(REFERENCE).build(tmp_path / name).embed(features)
        for name in ("masked.onnx", "adapted.onnx")
    )
    np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-5)
    assert stays_packed(LayerGeometry.of(layer))
    [weights] = [node for node in masked.graph.node if node.op_type == "DequantizeLinear"]
    [product] = [node for node in masked.graph.node if node.op_type == "MatMul"]
    [packed] = [each for each in masked.graph.initializer if each.data_type == TensorProto.INT4]
    assert (product.input[1], weights.input[0]) == (weights.output[0], packed.name)


def _masked_layers(network: nn.Module, n_mels: int, precision: Precision) -> onnx.ModelProto:
    """A network of layers with random weights, all of them in one precision."""
    layers = quantizable_layers(network)
    table = CalibrationTable(
        "max",
        dict.fromkeys(layers, 4.0),
        {name: layer.weight.detach().abs().flatten(1).amax(1).numpy() for name, layer in layers.items()},
    )
    mask = Mask({name: [name] for name in layers}, {"*": precision})
    return apply_mask(export_network(network, n_mels), mask, table)


def _masked(small: Subject, precisions: Mapping[str, Precision]) -> onnx.ModelProto:
    mask = Mask(small.network.units(), precisions)
    return apply_mask(exported_network(small.network), mask, small.table)


def _run(model: onnx.ModelProto, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"features": features})[0]


def test_groups_are_convolved_apart(small: Subject) -> None:
    """As TensorRT for RTX is given the network: the same results, without a split where layers are FP32."""
    mixed = _masked(small, {"*": FP32, "se_res2block2": INT8})
    adapt(mixed)
    features = small.recordings[0][np.newaxis].repeat(2, axis=0)
    expected = _run(mixed, features)
    convolve_groups_apart(mixed)
    onnx.checker.check_model(mixed, full_check=True)
    np.testing.assert_allclose(_run(mixed, features), expected, rtol=1e-5, atol=1e-5)
    [split] = [node for node in mixed.graph.node if node.op_type == "Split"]
    assert split.output[0].startswith("/se_res2block2/")
    weights = [int(np.prod(tensor.dims)) for tensor in mixed.graph.initializer]
    adapted = _masked(small, {"*": FP32, "se_res2block2": INT8})
    adapt(adapted)
    assert sum(weights) <= sum(int(np.prod(tensor.dims)) for tensor in adapted.graph.initializer) + 100


def test_all_layers_are_quantized_in_equal_steps(exported: onnx.ModelProto, small: Subject) -> None:
    adapt(exported)
    features = small.recordings[0][np.newaxis]
    expected = _run(exported, features)
    quantize_in_equal_steps(exported)
    onnx.checker.check_model(exported, full_check=True)
    embeddings = _run(exported, features)
    assert (embeddings * expected).sum() >= 0.9999 * np.linalg.norm(embeddings) * np.linalg.norm(expected)
    produced = {name for node in exported.graph.node for name in node.output}
    quantizers = [node for node in exported.graph.node if node.op_type == "QuantizeLinear"]
    assert len({node.input[1] for node in quantizers if node.input[0] in produced}) == (len(quantizers) > 0)
