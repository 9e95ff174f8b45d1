#!/usr/bin/env bash
# PyTorch 2.11.0 with onnxscript: the newer exporter (dynamo=True) names convolutions' weights as the module does, and so linear
# layers of one vector, but a linear layer over frames ([batch, time, features], as in attention and pooling) becomes a MatMul
# called node_MatMul_N of a constant called val_N: it has transposed the weight, and neither name says whose it was. Which
# layers of a file are quantized, left out or calibrated can then not be said by their names, as ONNX Runtime's quantizer asks
# for them, and numbers change with the network. The module stands in the node's metadata (pkg.torch.onnx.name_scopes), which
# tools need not keep. The older exporter (dynamo=False) transposes too, but the node's name is the module's path.
#
# Seen: Conv of conv.weight, Gemm of embedding.weight; for the linear layer over frames node_MatMul_1 of val_0, with
# ['', 'frames', 'linear'] in its metadata; by the older exporter /frames/MatMul of onnx::MatMul_17 (onnxscript 0.7.2, onnx 1.23.2).
#
# Fails if that changes. Downloads PyTorch, which is large.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.11.0 onnx==1.23.2 onnxscript==0.7.2 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import contextlib
import io
import sys
from importlib.metadata import version

import onnx
import torch
from torch import nn


class Speaker(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(80, 32, 3)
        self.frames = nn.Linear(32, 32)
        self.embedding = nn.Linear(32, 16)

    def forward(self, features):
        frames = self.conv(features).relu().transpose(1, 2)
        return self.embedding(self.frames(frames).relu().mean(1))


def exported(dynamo):
    # Dynamic in time by either exporter's own argument.
    newer, older = {"dynamic_shapes": ({2: torch.export.Dim("time", min=8)},)}, {"dynamic_axes": {"features": {2: "time"}}}
    lengths = newer if dynamo else older
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(
            Speaker().eval(), (torch.zeros(1, 80, 100),), "network.onnx", input_names=["features"], dynamo=dynamo, **lengths
        )
    nodes = onnx.load("network.onnx").graph.node
    return {node.op_type: node for node in nodes if node.op_type in ("Conv", "MatMul", "Gemm")}


print(f"torch {version('torch')}, onnxscript {version('onnxscript')}, onnx {version('onnx')}")
newer, older = exported(dynamo=True), exported(dynamo=False)
for node in (*newer.values(), older["MatMul"]):
    print(f"{node.op_type} {node.name} of {node.input[1]}")
product = newer["MatMul"]
scopes = {entry.key: entry.value for entry in product.metadata_props}["pkg.torch.onnx.name_scopes"]
print(f"metadata of {product.name}: {scopes}")
known = newer["Conv"].input[1] == "conv.weight" and newer["Gemm"].input[1] == "embedding.weight"
unknown = "frames" not in product.name + product.input[1]
sys.exit(not (known and unknown and "'frames'" in scopes and older["MatMul"].name == "/frames/MatMul"))
PYTHON
