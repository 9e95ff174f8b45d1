#!/usr/bin/env bash
# OpenVINO 2026.4.1, reader of ONNX files: poolings with padding and ceil_mode=1, whose last window need not be whole, are
# wrong at the end of the input, in FP32 and without a word. Where padding counts (count_include_pad=1, which PyTorch's exporter
# always writes for avg_pool1d), the sum over a last window that reaches beyond the padding is divided by the length of a whole
# window instead of what lies within input and padding. A maximum of a window that begins in the padding behind the input is kept,
# so that the output is one value longer, the lowest FP32. PyTorch and ONNX Runtime agree on both; averages where padding does not count are right.
# The average is right if a Pad stands before it, the maximum if what is too long is cut off.
#
# Seen (inputs of ones, of 6 and 7 frames; OpenVINO / ONNX Runtime 1.32.0):
# average, kernel 3, stride 2, padding 1: last value of 6 frames 0.333333 / 0.5;
# maximum, kernel 2, stride 2, padding 1: 5 values of 7 frames, the last -3.4e38 / 4 values.
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
import openvino as ov
from onnx import TensorProto, helper

LENGTHS = (6, 7)
POOLINGS = {
    "average, padding counts": ("AveragePool", {"kernel_shape": [3], "count_include_pad": 1}),
    "average, padding does not count": ("AveragePool", {"kernel_shape": [3], "count_include_pad": 0}),
    "maximum": ("MaxPool", {"kernel_shape": [2]}),
}
WRONG = {("average, padding counts", 6), ("maximum", 7)}


def pooled(operator: str, attributes: dict[str, object]) -> list[tuple[np.ndarray, np.ndarray]]:
    node = helper.make_node(operator, ["x"], ["y"], strides=[2], pads=[1, 1], ceil_mode=1, **attributes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 1, name]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "pooling", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    stored = model.SerializeToString()
    core = ov.Core()
    compiled = core.compile_model(core.read_model(stored), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    session = onnxruntime.InferenceSession(stored, providers=["CPUExecutionProvider"])
    inputs = [np.ones((1, 1, length), np.float32) for length in LENGTHS]
    return [(compiled(x)[0].ravel(), session.run(None, {"x": x})[0].ravel()) for x in inputs]


print("OpenVINO", ov.__version__, "- ONNX Runtime", onnxruntime.__version__)
wrong = set()
for name, (operator, attributes) in POOLINGS.items():
    for length, (here, there) in zip(LENGTHS, pooled(operator, attributes), strict=True):
        is_right = here.shape == there.shape and np.allclose(here, there)
        print(f"{name}, {length} frames: {here} / {there}, {'alike' if is_right else 'different'}")
        wrong |= set() if is_right else {(name, length)}
raise SystemExit("this has changed" if wrong != WRONG else 0)
PYTHON
