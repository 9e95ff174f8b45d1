#!/usr/bin/env bash
# sherpa-onnx 2.0.1 gives every speaker network of 3D-Speaker's and WeSpeaker's the same filter bank, and not the one
# that these were trained with: up to 400 Hz below half the sample rate (7600 Hz instead of 8000), with frames that
# reach beyond the ends (snip_edges=false), with the Povey window (WeSpeaker: Hamming). The metadata of a file can say
# nothing of it. Nothing is reported.
#
# Seen with a network that gives its features back, on a second of noise: largest difference from kaldi-native-fbank
# with sherpa-onnx's settings 0.000, with those of 3D-Speaker 3.2 (mean 0.54), and two frames more. With the CAM++ that
# 3D-Speaker released, embeddings of 12 recordings had a cosine of 0.90 with those of its own features, on average.
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sherpa-onnx==2.0.1 kaldi-native-fbank==1.22.3 \
    onnx==1.20.1 numpy==2.2.6
"$folder/venv/bin/python" - "$folder/features.onnx" <<'PYTHON'
import sys

import kaldi_native_fbank as knf
import numpy as np
import onnx
import sherpa_onnx
from onnx import TensorProto, helper

RATE, BANDS = 16000, 80
waveform = np.random.default_rng(0).normal(scale=0.1, size=RATE).astype(np.float32)

# A "network" whose embedding is its features, one frame after the other.
graph = helper.make_graph(
    [helper.make_node("Flatten", ["x"], ["embedding"])],
    "features",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "T", BANDS])],
    [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", "D"])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
metadata = {"framework": "3d-speaker", "language": "any", "sample_rate": RATE, "output_dim": 1, "normalize_samples": 1}
helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
onnx.save(model, sys.argv[1])


def by_sherpa_onnx() -> np.ndarray:
    extractor = sherpa_onnx.SpeakerEmbeddingExtractor(sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=sys.argv[1]))
    stream = extractor.create_stream()
    stream.accept_waveform(RATE, waveform)
    stream.input_finished()
    return np.array(extractor.compute(stream)).reshape(-1, BANDS)


def by_kaldi(high_freq: float, snip_edges: bool) -> np.ndarray:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = snip_edges
    options.mel_opts.num_bins = BANDS
    options.mel_opts.high_freq = high_freq
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(RATE, waveform.tolist())
    fbank.input_finished()
    return np.array([fbank.get_frame(frame) for frame in range(fbank.num_frames_ready)])


given = by_sherpa_onnx()
own = by_kaldi(-400, snip_edges=False)
trained_with = by_kaldi(0, snip_edges=True)  # 3D-Speaker, speakerlab/process/processor.py
print("sherpa-onnx", sherpa_onnx.version, "frames:", len(given), "and 3D-Speaker's:", len(trained_with))
as_documented = float(abs(given - own).max())
frames = len(trained_with)
difference = abs(given[1 : frames + 1] - trained_with[: len(given) - 1])
print(f"largest difference from its settings {as_documented:.3f}, from 3D-Speaker's {difference.max():.1f}", end=" ")
print(f"(mean {difference.mean():.2f})")
raise SystemExit("this has changed" if as_documented > 1e-3 or difference.mean() < 0.1 else 0)
PYTHON
