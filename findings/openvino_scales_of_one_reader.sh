#!/usr/bin/env bash
# OpenVINO 2026.4.1, CPU plugin: an INT8 convolution without a bias whose output has two readers is computed wrongly.
# Low-precision propagation gives each reader the scales of the weights as a product of its own; the plugin's
# fusing of such products (FuseConvMatmulFCDeconvAndDQScales) does not ask whether the convolution has other readers,
# so that these get outputs that have been scaled already, and scale them again. Nothing is reported. A bias, however
# small, keeps the products from the convolution.
#
# Seen (cosine with the same in NumPy, readers: a concatenation and a convolution behind a ReLU): without a bias 0.41,
# with one of 1e-38 1.00000. AMD EPYC with AVX2; weights of 7 bits, whose sums fit everywhere.
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

INPUTS, CHANNELS, FRAMES = 32, 16, 20
generator = np.random.default_rng(0)
codes = generator.integers(-63, 64, (CHANNELS, INPUTS))
scales = generator.uniform(0.001, 0.02, (CHANNELS, 1)).astype(np.float32)
others = generator.standard_normal((CHANNELS, CHANNELS)).astype(np.float32)
features = generator.integers(-127, 128, (1, INPUTS, FRAMES)).astype(np.float32)


def cosine(bias: float | None) -> float:
    source = ops.parameter([1, INPUTS, -1], np.float32)
    rounded = ops.fake_quantize(source, *np.array([-128, 127, -128, 127], np.float32), 256)
    stored = ops.convert(ops.constant(codes[..., np.newaxis].astype(np.int8)), np.float32)
    weight = ops.multiply(stored, ops.constant(scales[..., np.newaxis]))
    made = ops.convolution(rounded, weight, [1], [0], [0], [1])
    if bias is not None:
        made = ops.add(made, np.float32(bias))
    other = ops.convolution(ops.relu(made), ops.constant(others[..., np.newaxis]), [1], [0], [0], [1])
    model = ov.Model([ops.concat([made, other], 1)], [source])
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    right = (codes * scales) @ features[0]
    right = np.concatenate([right, others @ np.maximum(right, 0)])
    got = compiled(features)[0][0]
    return float((got * right).sum() / np.linalg.norm(got) / np.linalg.norm(right))


print("OpenVINO", ov.__version__)
without, tiny = cosine(None), cosine(np.finfo(np.float32).tiny)
print(f"cosine without a bias {without:.5f}, with the smallest {tiny:.5f}")
raise SystemExit("this has changed" if without > 0.999 or tiny < 0.99999 else 0)
PYTHON
