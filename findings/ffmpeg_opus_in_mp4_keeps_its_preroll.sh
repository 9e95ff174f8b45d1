#!/usr/bin/env bash
# FFmpeg 8.1.2 (the libraries in PyAV 18.1.0): Opus in mp4, of speech whose rate is not 48 kHz, is read back late. The
# encoder puts 312 samples of 48 kHz (6.5 ms) in front; the edit list counts them at the rate of the source, decoding
# leaves out as many samples at 48 kHz. At 16 kHz two thirds stay. Nothing is reported. Opus in WebM and Ogg, and
# Opus in mp4 from a source of 48 kHz, are in place.
#
# Seen (samples of 48 kHz that the recording is late): mp4 207 at 16 kHz, 155 at 24 kHz, 0 at 48 kHz; WebM and Ogg 0 or
# -1 (-1 is of this comparison).
#
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.2.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from fractions import Fraction
from pathlib import Path
import av
import numpy as np


def written(path: Path, recording: np.ndarray, rate: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=rate, layout="mono", bit_rate=64000)
        frame = av.AudioFrame.from_ndarray(recording[None], "flt", "mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        for part in (*av.AudioResampler(stream.format, "mono", rate).resample(frame), None):
            container.mux(stream.encode(part))


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


folder, late = Path(sys.argv[1]), {}
print("PyAV", av.__version__, "FFmpeg", av.ffmpeg_version_info)
for rate in (16000, 24000, 48000):
    noise = np.convolve(np.random.default_rng(0).standard_normal(4 * rate), np.ones(rate // 1000) / 16, "same")
    recording = (0.3 * noise).astype(np.float32)
    reference = np.repeat(recording, 48000 // rate)
    for name in ("x.mp4", "x.webm", "x.opus"):
        written(folder / name, recording, rate)
        samples = decoded(folder / name)
        scores = [np.dot(samples[4000 + k : 44000 + k], reference[4000:44000]) for k in range(-400, 401)]
        late[rate, name] = int(np.argmax(scores)) - 400
        print(f"{rate} Hz in {name}: {late[rate, name]} samples of 48 kHz late, {len(samples)} of {len(reference)}")
wrong = {key for key, samples in late.items() if abs(samples) > 10}
raise SystemExit("this has changed" if wrong != {(16000, "x.mp4"), (24000, "x.mp4")} else 0)
PYTHON
