#!/usr/bin/env bash
# OpenVINO 2026.4.1, reader of ONNX files: relu(x) - slopes * relu(-x) becomes PRelu, whose slopes of one axis are those of
# axis 1. But in the file, slopes [C] broadcast to the last axis: on [batch, time, C] the network fails for all lengths but
# C, and at that length it takes every frame's slope from another channel, and nothing is reported. Slopes [1, 1, C] are right.
# This is what a PReLU on frames becomes where an exporter writes it by differences of Relu.
#
# Seen (largest difference to the same in NumPy, 8 frames of 8 channels): 3.1 for slopes [8], 0 for [1, 1, 8].
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.2.6 onnx==1.23.2
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 8
features = np.random.default_rng(0).standard_normal((2, CHANNELS, CHANNELS)).astype(np.float32)


def difference(shape: tuple[int, ...]) -> float:
    slopes = np.linspace(0, 2, CHANNELS, dtype=np.float32).reshape(shape)
    nodes = [
        helper.make_node("Relu", ["x"], ["above"]),
        helper.make_node("Neg", ["x"], ["negative"]),
        helper.make_node("Relu", ["negative"], ["below"]),
        helper.make_node("Mul", ["slopes", "below"], ["sloped"]),
        helper.make_node("Sub", ["above", "sloped"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "slopes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "T", CHANNELS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "T", CHANNELS])],
        [numpy_helper.from_array(slopes, "slopes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    core = ov.Core()
    network = core.read_model(model.SerializeToString())
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    right = np.where(features < 0, slopes * features, features)
    return float(np.abs(compiled(features)[0] - right).max())


print("OpenVINO", ov.__version__)
one, three = difference((CHANNELS,)), difference((1, 1, CHANNELS))
print(f"largest difference: {one:.1e} for slopes of one axis, {three:.1e} for slopes of three")
raise SystemExit("this has changed" if one < 0.1 or three > 1e-5 else 0)
PYTHON
