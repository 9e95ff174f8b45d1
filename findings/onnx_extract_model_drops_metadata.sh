#!/usr/bin/env bash
# onnx 1.23.2: onnx.utils.extract_model, which cuts a network down to some of its outputs (such as the embedding of a file that
# gives class scores, too), drops the file's metadata_props. In files of speaker networks these say which features the network
# takes: sherpa-onnx reads sample_rate, normalize_samples, feature_normalize_type and others there, and finds no kind of model in
# a file without them. Nothing is reported. onnx.version_converter and onnx.inliner keep them.
#
# Seen: of 4 entries, 0 behind extract_model, 4 behind convert_version and inline_local_functions. What helps is to copy them:
# onnx.helper.set_model_props(extracted, {entry.key: entry.value for entry in model.metadata_props}).
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import onnx
from onnx import TensorProto, helper, inliner, version_converter

METADATA = {"framework": "wespeaker", "sample_rate": "16000", "normalize_samples": "0", "output_dim": "80"}

# An "embedding", the mean over time, and "scores" of it.
frames = helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["N", "T", 80])
outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 80]) for name in ("embedding", "scores")]
mean = helper.make_node("ReduceMean", ["frames"], ["embedding"], axes=[1], keepdims=0)
scores = helper.make_node("Softmax", ["embedding"], ["scores"])
graph = helper.make_graph([mean, scores], "network", [frames], outputs)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
helper.set_model_props(model, METADATA)
onnx.save(model, "network.onnx")
onnx.utils.extract_model("network.onnx", "embedding.onnx", ["frames"], ["embedding"])

kept = {
    "extract_model": len(onnx.load("embedding.onnx").metadata_props),
    "convert_version": len(version_converter.convert_version(model, 18).metadata_props),
    "inline_local_functions": len(inliner.inline_local_functions(model).metadata_props),
}
print(f"onnx {onnx.__version__}: of {len(METADATA)} entries, " + ", ".join(f"{kept[way]} behind {way}" for way in kept))
raise SystemExit("this has changed" if [*kept.values()] != [0, len(METADATA), len(METADATA)] else 0)
PYTHON
