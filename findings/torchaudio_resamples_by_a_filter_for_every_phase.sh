#!/usr/bin/env bash
# torchaudio 2.11.0: functional.resample keeps a filter for every phase between the two rates, all of them in 64 bits and
# several times over while they are made. That is little for the usual rates, whose greatest common divisor is large. A
# recording at a rate that shares little with the wanted one, as drift-corrected and old corpora have (16001 Hz, 11127 Hz),
# takes gigabytes and many seconds, however short it is; in a pool of threads, once for each. SciPy's resample_poly, whose
# filter grows with the larger of the two rates and not with their product, gives the same tone.
#
# Seen: one second of 44,100 Hz to 16,000 takes 18 MB and 0.01 s, one second of 16,001 Hz 4,261 MB and 11 s, and by
# resample_poly 13 MB and 0.06 s; both are within 0.0011 of the tone away from the ends (AMD EPYC, AVX2, two cores).
#
# Fails if that changes. Needs 5 GB of memory; downloads PyTorch, which is large.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.11.0 torchaudio==2.11.0 numpy==2.2.6 scipy==1.15.3
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import subprocess
import sys
from importlib.metadata import version

PROGRAM = """
import resource, sys, time
import numpy, torch, torchaudio
from scipy.signal import resample_poly
way, rate = sys.argv[1], int(sys.argv[2])
tone = numpy.sin(2 * numpy.pi * 440 * numpy.arange(rate) / rate).astype(numpy.float32)
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
if way == "torchaudio":
    found = torchaudio.functional.resample(torch.from_numpy(tone), rate, 16000).numpy()
else:
    found = resample_poly(tone, 16000, rate)
seconds = time.perf_counter() - start
megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
expected = numpy.sin(2 * numpy.pi * 440 * numpy.arange(16000) / 16000)
print(megabytes, seconds, numpy.abs(found - expected)[500:-500].max())
"""


def measured(way: str, rate: int) -> float:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, way, str(rate)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    megabytes, seconds, error = printed.split()
    print(f"{way}, {rate} Hz: {float(megabytes):.0f} MB, {float(seconds):.2f} s, off by {float(error):.4f}")
    return float(megabytes)


print(f"torchaudio {version('torchaudio')}, SciPy {version('scipy')}")
usual, odd = measured("torchaudio", 44100), measured("torchaudio", 16001)
other = measured("scipy", 16001)
sys.exit(not (usual < 200 and odd > 1000 and other < 200))
PYTHON
