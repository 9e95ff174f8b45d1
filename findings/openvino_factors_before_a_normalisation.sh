#!/usr/bin/env bash
# OpenVINO 2026.4.1, CPU plugin: where any layer of a network is INT8, low-precision propagation takes a constant factor in front
# of an instance or layer normalisation (MVN) for a dequantization and leaves it out, although the normalisation and all before
# it are FP32. Without what is added to the variance that would change nothing; with it the normalisation is another one. Nothing is
# reported. Without an INT8 layer it is right, and so it is with an operation between the two that the propagation moves
# nothing past (a maximum with the smallest number).
#
# Seen (largest difference to the same network without INT8, relative; a factor of 0.01 behind a ReLU, epsilon 1e-5; the INT8
# layer behind all of it changes outputs by 0.6 % by itself): 0.162, with the stop 0.006. Intel Xeon with AVX-512 and VNNI.
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import openvino as ov
from openvino import opset13 as ops

CHANNELS, OUTPUTS, FRAMES = 16, 8, 60
generator = np.random.default_rng(0)
codes = generator.integers(-63, 64, (OUTPUTS, CHANNELS)).astype(np.int8)
features = generator.standard_normal((1, CHANNELS, FRAMES)).astype(np.float32)


def outputs(is_int8: bool, stop: bool) -> np.ndarray:
    source = ops.parameter([-1, CHANNELS, -1], np.float32)
    scaled = ops.multiply(ops.relu(source), np.float32(0.01))
    if stop:
        scaled = ops.maximum(scaled, np.finfo(np.float32).min)
    normalised = ops.mvn(scaled, np.array([2], np.int64), True, 1e-5, "inside_sqrt")
    pooled = ops.reduce_mean(ops.relu(normalised), np.array([2], np.int64), False)
    if is_int8:
        pooled = ops.fake_quantize(pooled, *np.array([-1.28, 1.27] * 2, np.float32), 256)
        weight = ops.multiply(ops.convert(ops.constant(codes), np.float32), np.float32(0.01))
    else:
        weight = ops.constant((codes * 0.01).astype(np.float32))
    model = ov.Model([ops.matmul(pooled, weight, False, True)], [source])
    return ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(features)[0]


print("OpenVINO", ov.__version__)
right = outputs(is_int8=False, stop=False)
plain, stopped = (
    float(np.abs(outputs(is_int8=True, stop=stop) - right).max() / np.abs(right).max()) for stop in (False, True)
)
print(f"largest difference {plain:.3f}, with a stop {stopped:.3f}")
raise SystemExit("this has changed" if plain < 5 * stopped else 0)
PYTHON
