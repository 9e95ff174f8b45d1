#!/usr/bin/env bash
# OpenVINO 2026.4.1, CPU plugin, FP32 (INFERENCE_PRECISION_HINT f32, no dynamic quantization): a product with
# weights of 4 or 2 bits that are converted and multiplied by one scale for each row is computed wrongly where a row
# does not fill whole bytes: an odd number of columns in i4, one that does not divide by four in u2. Nothing is
# reported. Rows of whole bytes, and eight bits, are right to 1e-3.
#
# Seen (largest error of 2 x 5 x 32 outputs of order 10): i4 with 9 columns 24.3, 10 columns 0.0; u2 with 9 and 10
# columns 5.4 and 12.5, 12 columns 0.0; i8 with 9 columns 0.0001. AMD EPYC with AVX2.
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
from openvino import Type
from openvino import opset13 as ops

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
generator = np.random.default_rng(0)


def largest_error(kind: Type, low: int, high: int, columns: int) -> float:
    codes = generator.integers(low, high + 1, (32, columns))
    scales = generator.standard_normal((32, 1)).astype(np.float32)
    inputs = ops.parameter([-1, -1, columns], np.float32)
    stored = ops.constant(codes.astype(np.uint8 if low == 0 else np.int8), kind)
    weights = ops.multiply(ops.convert(stored, np.float32), ops.constant(scales))
    product = ops.matmul(inputs, weights, False, True)
    compiled = ov.Core().compile_model(ov.Model([product], [inputs]), "CPU", SETTINGS)
    features = generator.standard_normal((2, 5, columns)).astype(np.float32)
    return float(np.abs(compiled(features)[0] - features @ (codes * scales).T).max())


changed = False
print("OpenVINO", ov.__version__)
for name, kind, low, high, bits in (("u2", Type.u2, 0, 3, 2), ("i4", Type.i4, -8, 7, 4), ("i8", Type.i8, -127, 127, 8)):
    for columns in (9, 10, 12, 16, 18, 27, 72):
        error = largest_error(kind, low, high, columns)
        is_whole = columns * bits % 8 == 0
        print(f"{name}, {columns} columns: largest error {error:.4f}, rows of {columns * bits / 8:g} bytes")
        changed |= (error < 0.01) != is_whole
raise SystemExit("this has changed" if changed else 0)
PYTHON
