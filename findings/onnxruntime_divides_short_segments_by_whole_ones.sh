#!/usr/bin/env bash
# ONNX Runtime up to 1.28, CPU: an average pooling with ceil_mode=1 and count_include_pad=1 divides its last window, where
# that is cut short by the end of the input, by the length of a whole one. PyTorch's avg_pool1d averages over what is
# there, and its exporter always writes count_include_pad=1. So speaker networks that pool over segments (CAM++, TitaNet's
# kind) give other embeddings there for every recording that is no multiple of a segment, of files up to opset 18. 1.29
# computes them rightly. sherpa-onnx 2.0.1 holds ONNX Runtime 1.28.2: a file that says count_include_pad=0 is safe in both.
#
# Seen: 23 frames of ones in segments of 10, opset 11 and 17: 1, 1 and 0.3 by 1.28.0; 1, 1 and 1 by 1.29.0, and by both where
# padding does not count, and at opset 19.
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/pool.py" <<'PYTHON'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

print(f"ONNX Runtime {onnxruntime.__version__}")
last = {}
for opset in (11, 17, 19):
    for counted in (0, 1):
        node = helper.make_node(
            *("AveragePool", ["x"], ["y"]), kernel_shape=[10], strides=[10], ceil_mode=1, count_include_pad=counted
        )
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, "T"]) for name in "xy"]
        graph = helper.make_graph([node], "segments", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        averages = session.run(None, {"x": np.ones((1, 1, 23), np.float32)})[0].ravel()
        last[opset, counted] = round(float(averages[-1]), 6)
        print(f"opset {opset}, count_include_pad={counted}: {averages}")
wrong = {key for key, value in last.items() if value != 1}
sys.exit(wrong != ({(11, 1), (17, 1)} if sys.argv[1] == "wrong" else set()) or not {*last.values()} <= {0.3, 1.0})
PYTHON
for expected in 1.28.0=wrong 1.29.0=right; do
    version=${expected%=*}
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==$version" onnx==1.22.0 numpy==2.2.6
    "$folder/$version/bin/python" "$folder/pool.py" "${expected#*=}"
done
