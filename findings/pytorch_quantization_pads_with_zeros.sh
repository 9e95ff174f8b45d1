#!/usr/bin/env bash
# pytorch-quantization 2.1.3 with PyTorch 2.11.0: quantized convolutions do not know PyTorch's padding modes. With
# padding_mode="reflect" or "replicate" QuantConv1d and QuantConv2d pad with zeros, although they keep the mode and
# print it; with "circular" they add half as much as PyTorch does, so that the output is shorter. Nothing is reported.
# All quantizers are off here: it is the padding alone. A network with reflected ends, as SpeechBrain's
# ECAPA-TDNN has them, would be simulated wrongly at both ends of every recording.
#
# Seen (kernel 5, padding 2, 20 frames): zeros 0.0; reflect and replicate differ from torch.nn.Conv1d in the first and
# last two frames only, by exactly what zeros there make of it; circular gives 18 frames in place of 20.
#
# Fails if that changes. Downloads PyTorch, which is large.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.11.0 pytorch-quantization==2.1.3 numpy==2.2.6 "setuptools<81"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

warnings.simplefilter("ignore")

import torch
from pytorch_quantization import nn as quant_nn
from torch import nn

torch.manual_seed(0)
ENDS, MIDDLE = [0, 1, 18, 19], slice(2, 18)
changed = False
for plain, quantized, shape in (
    (nn.Conv1d, quant_nn.QuantConv1d, (1, 3, 20)),
    (nn.Conv2d, quant_nn.QuantConv2d, (1, 3, 20, 20)),
):
    features = torch.randn(shape)
    for mode in ("zeros", "reflect", "replicate", "circular"):
        reference = plain(3, 4, 5, padding=2, padding_mode=mode)
        layer = quantized(3, 4, 5, padding=2, padding_mode=mode)
        layer.load_state_dict(reference.state_dict(), strict=False)
        layer.input_quantizer.disable()
        layer.weight_quantizer.disable()
        zeros = plain(3, 4, 5, padding=2)
        zeros.load_state_dict(reference.state_dict())
        with torch.inference_mode():
            expected, output, padded = reference(features), layer(features), zeros(features)
        said = f"{quantized.__name__}, {layer.padding_mode}: {tuple(output.shape)} of {tuple(expected.shape)}"
        if mode == "circular":
            print(said)
            changed |= output.shape[-1] != 18
            continue
        off = float((output - expected).abs().max())
        print(f"{said}, off by {off:.3f}, from zeros by {float((output - padded).abs().max()):.1e}")
        changed |= not torch.allclose(output, padded, atol=1e-5)
        changed |= (off < 1e-5) != (mode == "zeros")
        if len(shape) == 3 and mode != "zeros":
            changed |= float((output - expected)[..., MIDDLE].abs().max()) > 1e-5
            changed |= float((output - expected)[..., ENDS].abs().max()) < 1e-2
raise SystemExit("this has changed" if changed else 0)
PYTHON
