#!/usr/bin/env bash
# ONNX Runtime 1.32.0, CPU provider: a convolution whose weights are INT4 constants in groups, behind a
# DequantizeLinear, turns them to FP32 again in every request, at any optimization level, and takes a multiple of the
# time of a short request. With the session option session.disable_quant_qdq=1, which is described as turning
# optimizations off, that is done once, when the file is loaded: outputs are the same, and the time is that of FP32.
#
# Seen (1536 x 1536, one tap, 60 frames; medians, ms of processor time): FP32 3.7, INT4 8.4, with the option 3.7. AMD
# EPYC with AVX2.
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.2.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import time

import ml_dtypes
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

CHANNELS, GROUP, FRAMES = 1536, 64, 60
generator = np.random.default_rng(0)
features = generator.standard_normal((1, CHANNELS, FRAMES)).astype(np.float32)
codes = generator.integers(-8, 8, (CHANNELS, CHANNELS, 1)).astype(np.int8)
scales = generator.uniform(0.001, 0.002, (CHANNELS, CHANNELS // GROUP, 1)).astype(np.float32)
values = codes * scales.repeat(GROUP, axis=1)


def session(constants: dict[str, np.ndarray], once: bool = False) -> ort.InferenceSession:
    convolve = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1])
    dequantize = helper.make_node("DequantizeLinear", ["codes", "scales"], ["w"], axis=1, block_size=GROUP)
    graph = helper.make_graph(
        [convolve] if "w" in constants else [dequantize, convolve],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, FRAMES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if once:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


integers = {"codes": codes.astype(ml_dtypes.int4), "scales": scales}
sessions = {"FP32": session({"w": values}), "INT4": session(integers), "once": session(integers, once=True)}
seconds = {name: [] for name in sessions}
outputs = {}
for _ in range(21):
    for name, each in sessions.items():
        start = time.process_time()
        [outputs[name]] = each.run(None, {"x": features})
        seconds[name].append(time.process_time() - start)
medians = {name: 1000 * float(np.median(each)) for name, each in seconds.items()}
print("ONNX Runtime", ort.__version__, {name: f"{value:.2f} ms" for name, value in medians.items()})
error = float(np.abs(outputs["INT4"] - outputs["once"]).max())
print(f"largest difference {error:.6f}")
if error > 1e-4 or medians["INT4"] < 1.5 * medians["once"] or medians["once"] > 1.3 * medians["FP32"]:
    raise SystemExit("this has changed")
PYTHON
