"""Seconds and peak memory of scoring ten million trials: cosine, EER, minDCF.

python benchmarks/scoring.py [--trials 10000000]
"""

import argparse
import resource
import sys
import time

import numpy as np

from speakerquant.statistics.error_rates import eer, min_dcf
from speakerquant.statistics.scores import cosine_scores

NUM_RECORDINGS, DIM = 5000, 192


def peak_gigabytes() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000_000)
    num_trials = parser.parse_args().trials

    rng = np.random.default_rng(0)
    speakers = rng.integers(0, 40, NUM_RECORDINGS)
    voices = rng.standard_normal((40, DIM))
    embeddings = (voices[speakers] + 2 * rng.standard_normal((NUM_RECORDINGS, DIM))).astype(np.float32)
    left, right = rng.integers(0, NUM_RECORDINGS, (2, num_trials), dtype=np.int32)
    labels = speakers[left] == speakers[right]
    print(f"{num_trials} trials of {NUM_RECORDINGS} recordings; {peak_gigabytes():.2f} GB before scoring")

    start = time.perf_counter()
    scores = cosine_scores(embeddings, left, right)
    scored = time.perf_counter()
    print(f"cosine  {scored - start:5.2f} s, peak {peak_gigabytes():.2f} GB")
    error_rate = eer(scores, labels)
    crossed = time.perf_counter()
    print(f"EER     {crossed - scored:5.2f} s, peak {peak_gigabytes():.2f} GB ({error_rate:.3f} %)")
    cost = min_dcf(scores, labels)
    done = time.perf_counter()
    print(f"minDCF  {done - crossed:5.2f} s, peak {peak_gigabytes():.2f} GB ({cost:.4f})")
    print(f"all     {done - start:5.2f} s")


if __name__ == "__main__":
    main()
