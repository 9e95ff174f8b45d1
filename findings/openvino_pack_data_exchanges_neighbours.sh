#!/usr/bin/env bash
# OpenVINO 2026.4.1, Python: openvino.helpers.pack_data, made for tensors of 4 and 2 bits, puts the first of the values
# that share a byte into its highest bits (its documentation: [7, 8] becomes 0111 1000), and the runtime takes the first
# from the lowest. Weights that were packed by it are computed with neighbours exchanged, without an error: a layer of
# 4 bits with every two input channels swapped, of 2 bits with every four in reverse order. unpack_data undoes what
# pack_data does, so a round trip shows nothing. ops.constant(values, type) packs as the runtime reads.
#
# Seen: of the values 0 1 2 3 packed by the helper, a graph that converts them to FP32 gives 1 0 3 2 (i4, u4) and
# 3 2 1 0 (u2); the same values by ops.constant, 0 1 2 3.
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import openvino as ov
from openvino import Type
from openvino import opset13 as ops
from openvino.helpers import pack_data, unpack_data

values = np.arange(4, dtype=np.uint8)
core = ov.Core()


def computed(stored):
    unused = ops.parameter([1], np.float32)
    model = ov.Model([ops.convert(stored, np.float32)], [unused])
    return core.compile_model(model, "CPU")(np.zeros(1, np.float32))[0].astype(int).tolist()


print(f"OpenVINO {ov.__version__}, values {values.tolist()}")
found = {}
for kind in (Type.i4, Type.u4, Type.u2):
    packed = pack_data(values, kind)
    by_helper = ops.constant(ov.Tensor(packed, list(values.shape), kind), shared_memory=False)
    there_and_back = unpack_data(packed, kind, values.shape).tolist()
    found[kind.get_type_name()] = ways = computed(by_helper), computed(ops.constant(values, kind)), there_and_back
    print(f"{kind.get_type_name()}: by pack_data {ways[0]}, by ops.constant {ways[1]}, there and back {ways[2]}")
given = values.tolist()
expected = {"i4": [1, 0, 3, 2], "u4": [1, 0, 3, 2], "u2": [3, 2, 1, 0]}
sys.exit(found != {kind: (exchanged, given, given) for kind, exchanged in expected.items()})
PYTHON
