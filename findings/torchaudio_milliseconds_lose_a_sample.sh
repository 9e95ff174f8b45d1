#!/usr/bin/env bash
# torchaudio 2.11.0: compliance.kaldi.fbank takes its window and hop in milliseconds and cuts what they are in samples off to
# a whole number. Whoever knows them in samples, as other front ends and the metadata of exported networks give them, and
# divides by the rate gets one sample less for many lengths at 11,025, 22,050 and 44,100 Hz: the product is a hair below the
# whole number. The hop then drifts against the one that a network was trained with, and a recording has other frames. At
# 8,000, 16,000, 24,000, 32,000 and 48,000 Hz none is lost.
#
# Seen: 38 of the hops of 16 to 512 samples lose one at each of the three rates, none at the others; two seconds of 22,050 Hz
# with a window of 551 and a hop of 198 samples give 222 frames, and 220 when half a sample is added to both.
#
# Fails if that changes. Downloads PyTorch, which is large.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 torchaudio==2.11.0 numpy==2.2.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import torch
from torchaudio.compliance import kaldi

print(f"torchaudio {version('torchaudio')}")


def frames(rate: int, window: float, hop: float, seconds: int) -> int:
    noise = torch.randn(1, seconds * rate, generator=torch.Generator().manual_seed(0))
    found = kaldi.fbank(
        noise, sample_frequency=rate, frame_length=1000 * window / rate, frame_shift=1000 * hop / rate
    )
    return len(found)


def loses_one(rate: int, hop: int) -> bool:
    """Whether just enough samples for ten frames of this hop give more, as with a smaller hop."""
    window = 2 * hop
    noise = torch.zeros(1, window + 10 * hop - 1)
    found = kaldi.spectrogram(
        noise,
        sample_frequency=rate,
        frame_length=1000 * (window + 0.5) / rate,
        frame_shift=1000 * hop / rate,
    )
    return len(found) > 10


lost = {}
for rate in (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000):
    lost[rate] = sum(loses_one(rate, hop) for hop in range(16, 513))
    print(f"{rate} Hz: {lost[rate]} hops of 16 to 512 samples lose one")
short, right = frames(22050, 551, 198, 2), frames(22050, 551.5, 198.5, 2)
print(f"two seconds of 22050 Hz, window 551, hop 198: {short} frames; with half a sample more {right}")
losing = {11025, 22050, 44100}
sys.exit(not (all((number > 0) == (rate in losing) for rate, number in lost.items()) and short > right))
PYTHON
