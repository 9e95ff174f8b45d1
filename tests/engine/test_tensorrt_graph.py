"""The network that TensorRT is given computes the same, in the form that TensorRT quantizes."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from conftest import Subject
from onnx import TensorProto, helper

from speakerquant.engine.tensorrt_graph import adapt, is_quantized
from speakerquant.model.ecapa_tdnn import EcapaTdnn
from speakerquant.model.units import block_units, quantizable_layers
from speakerquant.quantization.export import export_onnx
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import Precision
from speakerquant.quantization.simulate import simulate

NUM_CONVOLUTIONS = 40  # 38 layers, one of them in three parts
MASKS = {
    "none": [],
    "mixed": ["input_conv", "se_res2block2", "attentive_pooling"],
    "all": [
        *("input_conv", "se_res2block1", "se_res2block2", "se_res2block3"),
        *("aggregation_conv", "attentive_pooling", "embedding_linear"),
    ],
}


@pytest.fixture(params=MASKS)
def exported(request: pytest.FixtureRequest, small: Subject, tmp_path: Path) -> onnx.ModelProto:
    mask = Mask(block_units(small.network), dict.fromkeys(MASKS[request.param], Precision.INT8))
    export_onnx(simulate(small.network, mask, small.table), tmp_path / "model.onnx", n_mels=80)
    return onnx.load(tmp_path / "model.onnx")


@pytest.mark.parametrize(("fp16", "tolerance"), [(False, 1e-5), (True, 2e-2)])
def test_computes_the_same(exported: onnx.ModelProto, small: Subject, fp16: bool, tolerance: float) -> None:
    features = small.recordings[0][np.newaxis].repeat(2, axis=0)
    expected = _run(exported, features)
    adapt(exported, fp16=fp16)
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


def test_fp16_is_for_the_layers_without_quantizers(exported: onnx.ModelProto) -> None:
    num_plain = NUM_CONVOLUTIONS - sum(node.op_type == "QuantizeLinear" for node in exported.graph.node)
    adapt(exported, fp16=True)
    kernels = [tensor for tensor in exported.graph.initializer if len(tensor.dims) == 4]
    assert sum(tensor.data_type == TensorProto.FLOAT16 for tensor in kernels) == num_plain


def test_equal_weights_may_have_one_name(small: Subject, tmp_path: Path) -> None:
    """The exporter stores tensors of equal values once, and gives them further names by Identity."""
    network = copy.deepcopy(small.network)
    for layer in quantizable_layers(network).values():
        torch.nn.init.zeros_(layer.bias)
    mask = Mask(block_units(network), dict.fromkeys(MASKS["mixed"], Precision.INT8))
    export_onnx(simulate(network, mask, small.table), tmp_path / "model.onnx", n_mels=80)
    model = onnx.load(tmp_path / "model.onnx")
    assert any(node.op_type == "Identity" for node in model.graph.node)
    expected = _run(model, small.recordings[0][np.newaxis])
    for fp16 in (False, True):
        adapted = copy.deepcopy(model)
        adapt(adapted, fp16=fp16)
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
    export_onnx(network, tmp_path / "model.onnx", n_mels=80)
    model = onnx.load(tmp_path / "model.onnx")
    expected = network(torch.from_numpy(features)).detach().numpy()
    adapt(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(_run(model, features), expected, rtol=1e-4, atol=1e-5)


def test_refuses_what_it_does_not_know() -> None:
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["features"], ["embeddings"])],
        "unknown",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 80, 10])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [1, 800])],
    )
    with pytest.raises(ValueError, match="Flatten"):
        adapt(helper.make_model(graph))


def _run(model: onnx.ModelProto, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"features": features})[0]
