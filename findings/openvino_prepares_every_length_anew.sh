#!/usr/bin/env bash
# OpenVINO 2026.4.1, CPU plugin: a network of open length prepares its layers again for every length that it has not seen lately,
# which for INT8 convolutions takes longer than computing them. Corpora have hundreds of lengths, so that INT8, fast at one length
# repeated, as latencies are measured, is not on a list of recordings. CPU_RUNTIME_CACHE_CAPACITY helps one compiled model
# only. What takes long is generating kernels, which oneDNN keeps for all models of a process: 1024 of them, unless the
# environment says more (ONEDNN_PRIMITIVE_CACHE_CAPACITY), when the process begins to compute.
#
# Seen (24 INT8 convolutions, 100 lengths from 1 to 3 s; medians, ms of processor time for a recording): one length repeated
# 1.9; lengths of which none is known 19.5, and 22.0 when they come a second time; with 16384 kernels kept 5.0 then. Intel Xeon with
# AVX-512 and VNNI.
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.2.6
cat > "$folder/times.py" <<'PYTHON'
import statistics
import time

import numpy as np
import openvino as ov
from openvino import opset13 as ops

LAYERS, LENGTHS = 24, range(100, 300, 2)
generator = np.random.default_rng(0)
source = values = ops.parameter([-1, 80, -1], np.float32)
inputs = 80
for layer in range(LAYERS):
    outputs, taps = 96 + 8 * layer, 1 + 2 * (layer % 2)  # each layer has a kernel of its own
    codes = generator.integers(-63, 64, (outputs, inputs, taps)).astype(np.int8)
    weight = ops.multiply(ops.convert(ops.constant(codes), np.float32), np.float32(0.02 / np.sqrt(inputs)))
    rounded = ops.fake_quantize(values, *np.array([-128 / 32, 127 / 32] * 2, np.float32), 256)
    made = ops.convolution(rounded, weight, [1], [taps // 2], [taps // 2], [1])
    bias = ops.constant(generator.standard_normal((1, outputs, 1)).astype(np.float32))
    values, inputs = ops.relu(ops.add(made, bias)), outputs
settings = {"INFERENCE_PRECISION_HINT": "f32", "CPU_RUNTIME_CACHE_CAPACITY": 128}
compiled = ov.Core().compile_model(ov.Model([values], [source]), "CPU", settings)


def milliseconds(lengths) -> float:
    times = []
    for length in lengths:
        features = generator.standard_normal((1, 80, length)).astype(np.float32)
        start = time.process_time()
        compiled(features)
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


milliseconds([200])
repeated, first, second = milliseconds([200] * 50), milliseconds(LENGTHS), milliseconds(LENGTHS)
print(repeated, first, second)
PYTHON
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os
import subprocess
import sys


def times(**environment: str) -> list[float]:
    command = [sys.executable, f"{sys.argv[1]}/times.py"]
    ran = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return [float(each) for each in ran.stdout.split()]


repeated, first, second = times(ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024")
*_, kept = times(ONEDNN_PRIMITIVE_CACHE_CAPACITY="16384")
print(f"OpenVINO 2026.4.1: {repeated:.1f} ms at one length, {first:.1f} at new ones, {second:.1f} at the same again")
print(f"with 16384 kernels kept: {kept:.1f} ms at the same again")
raise SystemExit(0 if first > 1.5 * repeated and second > 1.5 * kept else "this has changed")
PYTHON
