#!/usr/bin/env bash
# ONNX Runtime 1.32.0, CPU provider, on a processor with VNNI: products of unsigned bytes, MatMulInteger and ConvInteger of
# uint8 with uint8, do not use VNNI. With a signed second factor they do, and take a third of the time:
# MatMulInteger's is the weight, but ConvInteger's is the input, as it multiplies weights by columns of the input. A signed first
# factor (an int8 weight of ConvInteger) is slower than either. All give the same sums. So for a convolution it is the input
# that must be int8, and its weight uint8, which ONNX Runtime refuses up to 1.23 ("could not find an implementation").
#
# Seen (512 x 512, 300 frames; medians, ms of processor time): MatMulInteger with uint8 weights 1.00, with int8 ones 0.28;
# ConvInteger of uint8 with uint8 1.04, of int8 inputs with uint8 weights 0.32, of uint8 inputs with int8 weights 5.37.
# Intel Xeon with AVX-512 and VNNI. Without VNNI nothing is asserted.
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

CHANNELS, FRAMES, REPEATS = 512, 300, 41
KINDS = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8}
generator = np.random.default_rng(0)
inputs, weights = (
    generator.integers(-63, 64, shape) for shape in ((1, CHANNELS, FRAMES), (CHANNELS, CHANNELS))
)


def stored(values: np.ndarray, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """Integers as such bytes, and their zero point."""
    zero_point = np.asarray(0 if kind is np.int8 else 128, kind)
    return np.ascontiguousarray((values + zero_point.astype(np.int16)).astype(kind)), zero_point


def session(operation: str, given_kind: type, weight_kind: type) -> tuple[ort.InferenceSession, np.ndarray]:
    is_convolution = operation == "ConvInteger"
    given, given_zero = stored(inputs if is_convolution else inputs.transpose(0, 2, 1), given_kind)
    weight, weight_zero = stored(weights[..., np.newaxis] if is_convolution else weights.T, weight_kind)
    graph = helper.make_graph(
        [helper.make_node(operation, ["given", "weight", "given_zero", "weight_zero"], ["sums"])],
        "product",
        [helper.make_tensor_value_info("given", KINDS[given.dtype], given.shape)],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, None)],
        [
            numpy_helper.from_array(value, name)
            for name, value in (("weight", weight), ("given_zero", given_zero), ("weight_zero", weight_zero))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]), given


sums = np.einsum("oc,bct->bot", weights, inputs)
cases = {
    "MatMulInteger uint8, uint8": ("MatMulInteger", np.uint8, np.uint8),
    "MatMulInteger uint8, int8": ("MatMulInteger", np.uint8, np.int8),
    "ConvInteger uint8, uint8": ("ConvInteger", np.uint8, np.uint8),
    "ConvInteger int8, uint8": ("ConvInteger", np.int8, np.uint8),
    "ConvInteger uint8, int8": ("ConvInteger", np.uint8, np.int8),
}
sessions = {name: session(*case) for name, case in cases.items()}
times: dict[str, list[float]] = {name: [] for name in cases}
for _ in range(REPEATS):
    for name, (product, given) in sessions.items():
        start = time.process_time()
        [got] = product.run(None, {"given": given})
        times[name].append(1e3 * (time.process_time() - start))
        expected = sums if name.startswith("Conv") else sums.transpose(0, 2, 1)
        if "vnni" in Path("/proc/cpuinfo").read_text() and not np.array_equal(got, expected):
            raise SystemExit(f"{name}: other sums")
print("ONNX Runtime", ort.__version__)
for name, each in times.items():
    print(f"{name}: {statistics.median(each):.2f} ms")
if "vnni" not in Path("/proc/cpuinfo").read_text():
    print("this processor has no VNNI, so that nothing is asserted")
    raise SystemExit(0)
unsigned, signed, plain, signed_input, signed_weight = map(statistics.median, times.values())
is_as_seen = unsigned > 2 * signed and plain > 1.5 * signed_input and signed_weight > plain
raise SystemExit(0 if is_as_seen else "this has changed")
PYTHON
