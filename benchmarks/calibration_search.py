"""How long the range searches take for the 38 inputs of ECAPA-TDNN (C = 512), ours beside NVIDIA's.

    python benchmarks/calibration_search.py [--recordings FOLDER] [--compared 3] [--repeats 3]

Both search the same histograms: those of a network with random weights on the first recordings of FOLDER
(wav or flac), or on smoothed noise when no folder is given. NVIDIA's entropy search takes seconds per range,
so it is run on some of the ranges only, in turns with ours. Its MSE search, which insists on CUDA, is made to
stay on the CPU. Each answer is valued under NVIDIA's objective: at most 1.01 times NVIDIA's own is wanted.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import scipy.stats
import torch
from pytorch_quantization.calib import histogram
from pytorch_quantization.tensor_quant import fake_tensor_quant
from torch import Tensor
from torch.nn import functional as F

from speakerquant.architectures.ecapa_tdnn.config import EcapaTdnnConfig
from speakerquant.architectures.ecapa_tdnn.network import EcapaTdnn
from speakerquant.audio.feature_extractor import FeatureExtractor
from speakerquant.audio.front_end import FrontEnd
from speakerquant.audio.waveform import read_waveform
from speakerquant.quantization.calibration import InputCalibrator
from speakerquant.quantization.histogram_search import entropy_range, mse_range, percentile_range
from speakerquant.quantization.quantizers import insert_quantizers, quantized_layers

NUM_RECORDINGS = 20
FIRST_CANDIDATE = 128

Array = npt.NDArray[np.float64]
Histogram = tuple[Array, Array]
Search = Callable[[Array, Array], float]

OURS: dict[str, Search] = {
    "percentile": lambda counts, edges: percentile_range(counts, edges, 99.99),
    "entropy": entropy_range,
    "mse": mse_range,
}


def nvidia_percentile(counts: Array, edges: Array) -> float:
    return float(histogram._compute_amax_percentile(counts.astype(np.int32), edges, 99.99))


def nvidia_entropy(counts: Array, edges: Array) -> float:
    return float(histogram._compute_amax_entropy(counts.astype(np.int32), edges, 8, False))


def nvidia_mse(counts: Array, edges: Array) -> float:
    with mock.patch.object(Tensor, "cuda", lambda tensor: tensor):
        return float(histogram._compute_amax_mse(counts.astype(np.int32), edges, 8, False))


NVIDIAS: dict[str, Search] = {"percentile": nvidia_percentile, "entropy": nvidia_entropy, "mse": nvidia_mse}


def entropy_objective(counts: Array, edges: Array, amax: float) -> float:
    """NVIDIA's divergence at one candidate, by running its search from there to the end in one stride."""
    divergences: list[float] = []

    def record(reference: Array, quantized: Array) -> float:
        divergences.append(float(scipy.stats.entropy(reference, quantized)))
        return divergences[-1]

    candidate = int(np.argmin(np.abs(edges - amax)))
    with mock.patch.object(histogram, "entropy", record):
        histogram._compute_amax_entropy(
            counts.astype(np.int32), edges, 8, False, stride=len(counts), start_bin=candidate
        )
    return divergences[0]


def mse_objective(counts: Array, edges: Array, amax: float) -> float:
    centers = torch.from_numpy((edges[1:] + edges[:-1]) / 2)
    error = fake_tensor_quant(centers, torch.tensor(amax, dtype=torch.float64), 8, False) - centers
    return float((error**2 * torch.from_numpy(counts)).mean())


OBJECTIVES = {"entropy": entropy_objective, "mse": mse_objective}


def features(folder: Path | None) -> Iterator[Tensor]:
    """``[n_mels, T]`` of some recordings."""
    if folder is None:
        generator = torch.Generator().manual_seed(0)
        for _ in range(NUM_RECORDINGS):
            noise = torch.randn(1, 1, 90, 1010, generator=generator)
            yield 8 * F.avg_pool2d(noise, 11, stride=1)[0, 0]
        return
    front_end = FrontEnd()
    log_mel = FeatureExtractor(front_end)
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac"))
    for path in paths[:NUM_RECORDINGS]:
        waveform = torch.from_numpy(read_waveform(path, front_end.sample_rate))
        yield log_mel(waveform[None])[0]


def collect_histograms(recordings: Iterator[Tensor]) -> dict[str, Histogram]:
    torch.manual_seed(0)
    network = insert_quantizers(EcapaTdnn(EcapaTdnnConfig(channels=512)))
    layers = quantized_layers(network)
    calibrators = {name: InputCalibrator() for name in layers}
    for name, layer in layers.items():
        layer.input_quantizer.register_forward_pre_hook(
            lambda _, inputs, calibrator=calibrators[name]: calibrator.collect(inputs[0])
        )
    with torch.inference_mode():
        for recording in recordings:
            network(recording[None])
    return {name: calibrator.histogram() for name, calibrator in calibrators.items()}


def timed(search: Search, counts: Array, edges: Array) -> tuple[float, float]:
    """Seconds and answer."""
    start = time.perf_counter()
    answer = search(counts, edges)
    return time.perf_counter() - start, answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recordings", type=Path, help="folder of wav or flac files (default: smoothed noise)"
    )
    parser.add_argument("--compared", type=int, default=3, help="ranges that NVIDIA searches as well")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, of which the median counts")
    arguments = parser.parse_args()

    start = time.perf_counter()
    histograms = collect_histograms(features(arguments.recordings))
    bins = sorted(len(counts) for counts, _ in histograms.values())
    print(
        f"{len(histograms)} histograms of {bins[0]} to {bins[-1]} bins (median {bins[len(bins) // 2]}) "
        f"collected from {NUM_RECORDINGS} recordings in {time.perf_counter() - start:.1f} s"
    )

    for method, ours in OURS.items():
        totals = [
            sum(timed(ours, counts, edges)[0] for counts, edges in histograms.values())
            for _ in range(arguments.repeats)
        ]
        print(f"\n{method}: all {len(histograms)} ranges in {np.median(totals):.2f} s")
        names = list(histograms)[:: max(1, len(histograms) // arguments.compared)][: arguments.compared]
        for name in names:
            counts, edges = histograms[name]
            runs = [
                (timed(ours, counts, edges), timed(NVIDIAS[method], counts, edges))
                for _ in range(arguments.repeats)
            ]
            (_, our_answer), (_, their_answer) = runs[-1]
            our_seconds, their_seconds = np.median([[a[0], b[0]] for a, b in runs], axis=0)
            line = (
                f"  {name} ({len(counts)} bins): ours {1000 * our_seconds:.1f} ms, "
                f"NVIDIA's {1000 * their_seconds:.1f} ms; ranges {our_answer:.5g} and {their_answer:.5g}"
            )
            if method in OBJECTIVES:
                objective = OBJECTIVES[method]
                ratio = objective(counts, edges, our_answer) / objective(counts, edges, their_answer)
                line += f"; objective {ratio:.6f} of NVIDIA's"
            print(line, flush=True)


if __name__ == "__main__":
    main()
