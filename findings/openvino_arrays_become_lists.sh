#!/usr/bin/env bash
# OpenVINO 2026.4.1, Python: a NumPy array that is given straight to an operation (ops.matmul(features, weight)) becomes
# a list of Python's numbers on its way into the graph; the same array as ops.constant(weight) is copied as it is. The
# graphs are equal. For a network whose weights are put in layer by layer this is most of the time to build it, and for
# the moment of each layer several times its memory.
#
# Seen: weights of 2048 x 2048 (16.8 MB) take 0.22 s in place of 0.012 s, 18 to 20 times as long (AMD EPYC), and Python
# allocates 151 MB on the way in place of none (36 bytes a number).
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import statistics
import sys
import time
import tracemalloc

import numpy as np
import openvino as ov
from openvino import opset13 as ops

weight = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
features = ops.parameter([-1, 2048], np.float32)
WAYS = {"array": lambda: weight, "constant": lambda: ops.constant(weight)}


def product(way):
    return ops.matmul(features, WAYS[way](), False, True)


times = {way: [] for way in WAYS}
for _ in range(5):
    for way in WAYS:
        start = time.perf_counter()
        product(way)
        times[way].append(time.perf_counter() - start)
seconds = {way: statistics.median(measured) for way, measured in times.items()}
megabytes = {}
for way in WAYS:
    tracemalloc.start()
    product(way)
    megabytes[way] = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
held = [product(way).input_value(1).get_node().data for way in WAYS]
ratio = seconds["array"] / seconds["constant"]
print(f"OpenVINO {ov.__version__}: {seconds['array']:.3f} s as an array, {seconds['constant']:.3f} s as a constant")
print(f"{ratio:.1f} times as long, {megabytes['array']:.0f} MB of Python's memory in place of {megabytes['constant']:.0f}")
print("the weights in the graph are equal:", np.array_equal(*held))
sys.exit(not (ratio > 5 and megabytes["array"] > 100 > 20 > megabytes["constant"] and np.array_equal(*held)))
PYTHON
