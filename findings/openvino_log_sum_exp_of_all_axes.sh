#!/usr/bin/env bash
# OpenVINO 2026.4.1, reader of ONNX files: ReduceLogSumExp, ReduceLogSum and ReduceL1 of opset 17 and older do not read
# their attribute `axes` and reduce all axes, also that of the batch, to one number. So a pooling by torch.logsumexp over
# time, exported with opset_version=17, gives every channel and recording the same value, and F.normalize with p=1 divides
# all of them by one number. With keepdims=1 the result is broadcast and nothing is reported. From opset 18 on, where axes are an input, it is right; so are ReduceSumSquare and
# ReduceL2 of any opset.
#
# Seen (shape of what is made of [2, 20, 7] along axis 2 with keepdims=1): [1, 1, 1] with opset 17, [2, 20, 1] with 18.
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
from onnx import TensorProto, helper

features = np.random.default_rng(0).uniform(0.1, 2, (2, 20, 7)).astype(np.float32)


def pooled(operator: str, opset: int) -> np.ndarray:
    if opset < 18:
        node = helper.make_node(operator, ["x"], ["y"], axes=[2], keepdims=1)
    else:
        node = helper.make_node(operator, ["x", "axes"], ["y"], keepdims=1)
    graph = helper.make_graph(
        [node],
        "pooling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 20, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 20, 1])],
        [] if opset < 18 else [helper.make_tensor("axes", TensorProto.INT64, [1], [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    core = ov.Core()
    return core.compile_model(core.read_model(model.SerializeToString()), "CPU")(features)[0]


print("OpenVINO", ov.__version__)
changed = False
for operator, expected in (
    ("ReduceLogSumExp", np.log(np.exp(features).sum(2, keepdims=True))),
    ("ReduceLogSum", np.log(features.sum(2, keepdims=True))),
    ("ReduceL1", features.sum(2, keepdims=True)),
    ("ReduceL2", np.sqrt((features**2).sum(2, keepdims=True))),
):
    for opset in (17, 18):
        got = pooled(operator, opset)
        is_right = got.shape == expected.shape and np.allclose(got, expected, atol=1e-4)
        print(f"{operator}, opset {opset}: {got.shape}, {'right' if is_right else 'wrong'}")
        changed |= is_right == (operator != "ReduceL2" and opset == 17)
raise SystemExit("this has changed" if changed else 0)
PYTHON
