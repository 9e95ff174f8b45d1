#!/usr/bin/env bash
# OpenVINO 2026.4.1, CPU plugin: a convolution of kernel 1 that is written as a matrix product, as it must be for its weights to stay
# packed, stands between two transposes. Two that follow one another directly are left out; with an activation between them
# both are run, although it is computed by elements and could be on either side. They are not among the fast kernels: between
# products of 512 channels they take more than a tenth of the whole time.
#
# Seen (eight products of 512 channels, 300 frames, one thread): 7 ReLUs between transposes, 16 transposes run, 15.4 to 15.9 ms; ReLUs on
# the other side of theirs, 2 transposes, 12.6 to 13.0 ms. AMD EPYC with AVX-512.
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import statistics
import time

import numpy as np
import openvino as ov
from openvino import opset13 as ops

PRODUCTS, CHANNELS, FRAMES, ROUNDS = 8, 512, 300, 21
generator = np.random.default_rng(0)
weights = [generator.standard_normal((CHANNELS, CHANNELS)).astype(np.float32) / 23 for _ in range(PRODUCTS)]
features = generator.standard_normal((1, CHANNELS, FRAMES)).astype(np.float32)
settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def exchanged(values):
    return ops.transpose(values, np.array([0, 2, 1]))


def compiled(activation_first: bool) -> ov.CompiledModel:
    source = values = ops.parameter([-1, CHANNELS, -1], np.float32)
    for number, weight in enumerate(weights):
        values = ops.matmul(exchanged(values), weight, False, True)
        is_last = number == len(weights) - 1
        if is_last:
            values = exchanged(values)
        elif activation_first:
            values = exchanged(ops.relu(values))
        else:
            values = ops.relu(exchanged(values))
    return ov.Core().compile_model(ov.Model([values], [source]), "CPU", settings)


def transposes(network: ov.CompiledModel) -> int:
    kinds = [node.get_rt_info()["layerType"].astype(str) for node in network.get_runtime_model().get_ops()]
    return kinds.count("Transpose")


networks = {name: compiled(first) for name, first in (("after", False), ("before", True))}
times = {name: [] for name in networks}
for _ in range(ROUNDS):
    for name, network in networks.items():
        start = time.perf_counter()
        made = network(features)[0].copy()
        times[name].append(1e3 * (time.perf_counter() - start))
counts = {name: transposes(network) for name, network in networks.items()}
for name in networks:
    print(f"activation {name} the transpose: {counts[name]} transposes, {statistics.median(times[name]):.1f} ms")
same = np.allclose(networks["before"](features)[0], networks["after"](features)[0], atol=1e-4)
raise SystemExit(0 if same and counts == {"after": 2 * PRODUCTS, "before": 2} else "this has changed")
PYTHON
