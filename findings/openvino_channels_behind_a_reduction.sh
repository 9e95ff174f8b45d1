#!/usr/bin/env bash
# OpenVINO 2026.4.1, CPU plugin, FP32: what has a value for each channel (a batch normalisation, say) and follows a
# reduction of the last axis of [batch, channels, frames] is fused to it, and applied wrongly to all of a batch but its
# first: these get the values of other channels. Nothing is reported. A batch of one is right, and so are
# images [batch, channels, height, width], values that all channels share, and an operation between the two that is not
# fused (a maximum with the smallest number).
#
# Seen (largest difference between a batch of 3 and its recordings one by one, values of order 1): 3.0 for the mean,
# 2.7 for the sum, 3.2 for the maximum, all followed by a sum with [1, channels, 1]; 0 for the others. AMD EPYC with AVX2.
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

BATCH, CHANNELS = 3, 32
generator = np.random.default_rng(0)


def difference(reduce, axes, size, stop=False, shared=False) -> float:
    source = ops.parameter([-1, CHANNELS, *[-1] * len(size)], np.float32)
    reduced = reduce(source, np.array(axes, np.int64), True)
    if stop:
        reduced = ops.maximum(reduced, np.finfo(np.float32).min)
    shape = (1, 1 if shared else CHANNELS, *[1] * len(size))
    added = ops.add(reduced, ops.constant(generator.standard_normal(shape).astype(np.float32)))
    compiled = ov.Core().compile_model(ov.Model([added], [source]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    features = generator.standard_normal((BATCH, CHANNELS, *size)).astype(np.float32)
    together = np.array(compiled(features)[0])
    alone = np.concatenate([np.array(compiled(each[np.newaxis])[0]) for each in features])
    return float(np.abs(together - alone).max())


changed = False
print("OpenVINO", ov.__version__)
for name, is_right, arguments in (
    ("mean over time", False, (ops.reduce_mean, [2], (20,))),
    ("sum over time", False, (ops.reduce_sum, [2], (20,))),
    ("maximum over time", False, (ops.reduce_max, [2], (20,))),
    ("mean, one value for all channels", True, (ops.reduce_mean, [2], (20,), False, True)),
    ("mean, not fused", True, (ops.reduce_mean, [2], (20,), True)),
    ("mean of images", True, (ops.reduce_mean, [2, 3], (8, 20))),
):
    found = difference(*arguments)
    print(f"{name}: largest difference {found:.5f}")
    changed |= (found < 1e-4) != is_right
raise SystemExit("this has changed" if changed else 0)
PYTHON
