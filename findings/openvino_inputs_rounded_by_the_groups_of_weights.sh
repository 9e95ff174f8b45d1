#!/usr/bin/env bash
# OpenVINO 2026.4.1, CPU plugin, a processor with VNNI: what DYNAMIC_QUANTIZATION_GROUP_SIZE does to products with
# weights of 4 bits, though INFERENCE_PRECISION_HINT says f32. Inputs of each frame are rounded to steps of a 127th of
# the largest value in each group of so many columns, which is faster: but only of products whose weights' groups
# are multiples of it, or of one group each. All others compute in FP32 in the same network, without a word. As a
# runtime option in the model's information it is kept by an exported blob, which forgets settings.
#
# Seen (distance from FP32 and from inputs rounded by 64, as shares of the largest output): groups of 64 and 128
# columns 9e-3 and 6e-3, 1e-7; of 16 and 32 columns below 1e-6, 6e-3 and 5e-3. Compiled with 64 as a runtime option,
# exported, and imported without a setting: 64. AMD EPYC with AVX-512 and VNNI; without VNNI nothing is rounded.
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import Type
from openvino import opset13 as ops

NAME, SIZE, ROWS, COLUMNS, FRAMES = "DYNAMIC_QUANTIZATION_GROUP_SIZE", 64, 32, 256, 20
FP32 = {"INFERENCE_PRECISION_HINT": "f32"}
generator = np.random.default_rng(0)
core = ov.Core()


def product(length: int) -> tuple[ov.Model, np.ndarray]:
    """A product with weights in groups of so many columns, and the values of these."""
    codes = generator.integers(-8, 8, (ROWS, COLUMNS // length, length))
    scales = generator.uniform(0.5, 1.5, (ROWS, COLUMNS // length, 1)).astype(np.float32)
    inputs = ops.parameter([-1, -1, COLUMNS], np.float32)
    stored = ops.constant(codes.astype(np.int8), Type.i4)
    scaled = ops.multiply(ops.convert(stored, np.float32), ops.constant(scales))
    weights = ops.reshape(scaled, ops.constant(np.array([ROWS, -1], np.int64)), False)
    return ov.Model([ops.matmul(inputs, weights, False, True)], [inputs]), (codes * scales).reshape(ROWS, -1)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


changed = False
has_vnni = "vnni" in Path("/proc/cpuinfo").read_text()
print("OpenVINO", ov.__version__, "with VNNI" if has_vnni else "without VNNI")
features = generator.standard_normal((1, FRAMES, COLUMNS)).astype(np.float32)
groups = features.reshape(FRAMES, -1, SIZE)
steps = np.abs(groups).max(-1, keepdims=True) / 127
rounded = (np.rint(groups / steps) * steps).reshape(features.shape)
for length in (16, 32, 64, 128):
    model, weights = product(length)
    outputs = core.compile_model(model, "CPU", {**FP32, NAME: SIZE})(features)[0]
    exact, as_rounded = distance(outputs, features @ weights.T), distance(outputs, rounded @ weights.T)
    print(f"groups of {length}: {exact:.0e} from FP32, {as_rounded:.0e} from inputs rounded by {SIZE}")
    is_rounded = has_vnni and length % SIZE == 0
    changed |= (as_rounded < 1e-5) != is_rounded or (exact < 1e-5) == is_rounded

model, _ = product(SIZE)
model.set_rt_info(str(SIZE), ["runtime_options", NAME])
blob = core.compile_model(model, "CPU", FP32).export_model().getvalue()
kept = core.import_model(blob, "CPU", FP32).get_property(NAME)
print(f"imported without a setting, compiled with {SIZE} as a runtime option: {kept}")
changed |= kept != SIZE
raise SystemExit("this has changed" if changed else 0)
PYTHON
