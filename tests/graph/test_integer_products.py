"""INT8 layers as products of integers, in ONNX Runtime itself."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import Subject, write_model
from onnx import TensorProto, helper, numpy_helper

from speakerquant.engine.cpu import describe_cpu
from speakerquant.graph.integer_products import compute_in_integers, sign_second_factors
from speakerquant.measuring.check import fidelity
from speakerquant.quantization.mask import Mask
from speakerquant.quantization.precision import FP32, INT4, INT8, INT8_DYNAMIC, Precision


def run(model: onnx.ModelProto, features: np.ndarray) -> np.ndarray:
    [name] = [each.name for each in model.graph.input]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: features})[0]


@pytest.mark.parametrize("int8", [INT8, INT8_DYNAMIC], ids=str)
def test_every_int8_layer_of_a_mask_is_one_product_of_integers(
    small: Subject, int8: Precision, tmp_path: Path
) -> None:
    units = small.network.units()
    cycle = (int8, INT4, FP32)
    mask = Mask(units, {unit: cycle[place % 3] for place, unit in enumerate(units)})
    write_model(small.network, tmp_path / "model.onnx", mask, small.table)
    model = onnx.load(tmp_path / "model.onnx")
    features = np.stack([each[:, :100] for each in small.recordings])
    expected = run(model, features)
    compute_in_integers(model)
    onnx.checker.check_model(model, full_check=True)
    operations = Counter(node.op_type for node in model.graph.node)
    layers = Counter(str(precision) for precision in mask.layers.values())
    assert operations["ConvInteger"] + operations["MatMulInteger"] == layers[str(int8)]
    assert operations["DequantizeLinear"] == layers["int4"]
    assert {each.domain for each in model.opset_import} == {""}
    assert fidelity(run(model, features), expected) > 0.99999


@pytest.mark.parametrize(
    ("shape", "group"),
    [
        ((8, 64), 1),
        ((8, 64, 1), 1),
        ((8, 64, 3), 1),
        ((8, 4, 3, 3), 1),
        ((8, 4, 3), 2),
        ((8, 4, 1), 2),
        ((8, 1, 3, 3), 4),
    ],
)
def test_sums_of_the_largest_integers_are_exact(shape: tuple[int, ...], group: int) -> None:
    """Where bytes of either sign are multiplied, pairs of such products overflow without VNNI."""
    model = int8_layer(np.full(shape, 127, np.int8), group)
    features = np.full((2, shape[1] * group, *[9] * (len(shape) - 2)), 127.0, np.float32)
    compute_in_integers(model)
    assert not {"Conv", "Gemm"}.intersection(node.op_type for node in model.graph.node)
    outputs = run(model, features)
    # Weights are 127 times 0.5, inputs 127, a bias of 3, and at no border is all of the kernel inside.
    assert outputs.max() == np.prod(shape[1:]) * 127 * 63.5 + 3


@pytest.mark.parametrize(
    ("shape", "runs_everywhere"),
    [((8, 64), True), ((8, 64, 1), True), ((8, 64, 3), False), ((8, 4, 3, 3), False)],
)
def test_weights_of_seven_bits_are_multiplied_by_signed_bytes(
    shape: tuple[int, ...], runs_everywhere: bool
) -> None:
    """ONNX Runtime computes these faster, and two such products fit 16 bits."""
    model = int8_layer(np.full(shape, 63, np.int8))
    features = np.full((2, shape[1], *[9] * (len(shape) - 2)), 127.0, np.float32)
    compute_in_integers(model)
    assert has_signed_factor(model) == runs_everywhere
    sign_second_factors(model, adds_in_32_bits=False)
    assert has_signed_factor(model)
    assert run(model, features).max() == np.prod(shape[1:]) * 127 * 31.5 + 3


def has_signed_factor(model: onnx.ModelProto) -> bool:
    """Whether the second factor of a model's one product of integers is signed."""
    [product] = [node for node in model.graph.node if node.op_type in ("MatMulInteger", "ConvInteger")]
    kinds = {each.name: each.data_type for each in model.graph.initializer}
    return kinds[product.input[3 if product.op_type == "MatMulInteger" else 2]] == TensorProto.INT8


@pytest.mark.parametrize("int8", [INT8, INT8_DYNAMIC], ids=str)
def test_signed_second_factors_change_nothing_but_the_speed(
    small: Subject, int8: Precision, tmp_path: Path
) -> None:
    mask = Mask(small.network.units(), {"*": int8})
    write_model(small.network, tmp_path / "model.onnx", mask, small.table)
    model = onnx.load(tmp_path / "model.onnx")
    features = np.stack([each[:, :100] for each in small.recordings])
    compute_in_integers(model)
    unsigned = run(model, features)
    sign_second_factors(model, adds_in_32_bits=True)
    onnx.checker.check_model(model, full_check=True)
    signed = run(model, features)
    sign_second_factors(model, adds_in_32_bits=True)
    assert np.array_equal(run(model, features), signed)
    if "vnni" in describe_cpu():
        assert np.array_equal(signed, unsigned)


def test_depthwise_layers_stay() -> None:
    model = int8_layer(np.ones((8, 1, 3), np.int8), group=8)
    before = model.SerializeToString()
    compute_in_integers(model)
    assert [node.op_type for node in model.graph.node].count("Conv") == 1
    features = np.random.default_rng(0).normal(size=(1, 8, 20)).astype(np.float32)
    assert np.array_equal(run(model, features), run(onnx.load_from_string(before), features))


def int8_layer(codes: np.ndarray, group: int = 1) -> onnx.ModelProto:
    """A layer with inputs in steps of 1 and weights in steps of 0.5, as graphs of masks have them."""
    axes = codes.ndim - 2
    constants = {
        "step": np.float32(1),
        "zero": np.int8(0),
        "codes": codes,
        "steps": np.full(len(codes), 0.5, np.float32),
        "bias": np.full(len(codes), 3, np.float32),
    }
    attributes = {"kernel_shape": codes.shape[2:], "pads": [1] * 2 * axes, "group": group}
    if codes.shape[2:] == (1,) * axes:
        attributes["pads"] = [0] * 2 * axes
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "step", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["codes", "steps"], ["weight"], axis=0),
        helper.make_node("Conv", ["rounded", "weight", "bias"], ["y"], **attributes)
        if axes > 0
        else helper.make_node("Gemm", ["rounded", "weight", "bias"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [
            helper.make_tensor_value_info(
                "x", TensorProto.FLOAT, [None, codes.shape[1] * group, *[None] * axes]
            )
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
