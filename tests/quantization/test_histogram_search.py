"""The searches against NVIDIA's own code: the answer's objective value under the original's objective."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from pytorch_quantization.calib import HistogramCalibrator, histogram
from pytorch_quantization.tensor_quant import fake_tensor_quant

from speakerquant.quantization.histogram_search import (
    entropy_divergences,
    entropy_range,
    mse_range,
    percentile_range,
    squared_errors,
)

WITHIN = 1.01


def _collected(values: np.ndarray, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges that NVIDIA's calibrator makes of two batches, the second with the larger maximum."""
    calibrator = HistogramCalibrator(8, None, False, num_bins=num_bins)
    batches = torch.from_numpy(values).float().tensor_split(2)
    for batch in sorted(batches, key=lambda batch: batch.abs().max().item()):
        calibrator.collect(batch)
    counts = calibrator._calib_hist.int().numpy()
    return counts, calibrator._calib_bin_edges.numpy()[: len(counts) + 1]


@functools.cache
def _histograms(num_bins: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(100_000)
    values = {
        "normal": normal,
        "heavy tail": rng.standard_t(4, 100_000),
        "after a rectifier": np.maximum(normal, 0),
        "after a rectifier and a norm": 1.7 * np.maximum(normal, 0) - 0.6,
        "saturated": np.tanh(2 * normal),
        "channels of many scales": normal * np.repeat(2.0 ** rng.uniform(-4, 2, 100), 1000),
        "far outliers": np.concatenate([normal, [9.0, 9.5, 12.0]]),
        "few values": rng.standard_normal(400),
        "nothing near zero": np.concatenate([3 + 0.2 * normal, [0.0]]),
    }
    return {name: _collected(v, num_bins) for name, v in values.items()}


def _of_every_histogram(num_bins: int) -> pytest.MarkDecorator:
    histograms = _histograms(num_bins)
    return pytest.mark.parametrize(("counts", "edges"), histograms.values(), ids=histograms)


@pytest.fixture
def original_entropy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[float, np.ndarray]]:
    """NVIDIA's entropy search, which returns its divergences as well."""

    def search(counts: np.ndarray, edges: np.ndarray, stride: int = 1) -> tuple[float, np.ndarray]:
        divergences: list[float] = []

        def record(reference: np.ndarray, quantized: np.ndarray) -> float:
            divergences.append(float(scipy.stats.entropy(reference, quantized)))
            return divergences[-1]

        monkeypatch.setattr(histogram, "entropy", record)
        # a copy, because the original changes the counts it is given
        amax = histogram._compute_amax_entropy(counts.copy(), edges, 8, False, stride)
        # undefined where a candidate keeps nothing but empty bins
        return amax.item(), np.nan_to_num(divergences, nan=np.inf, posinf=np.inf)

    return search


@_of_every_histogram(num_bins=300)
def test_entropy_is_as_good_as_the_original(
    counts: np.ndarray, edges: np.ndarray, original_entropy: Callable[..., tuple[float, np.ndarray]]
) -> None:
    _, divergences = original_entropy(counts, edges)
    found = np.argmin(np.abs(edges[128:] - entropy_range(counts, edges)))
    assert divergences[found] <= WITHIN * divergences.min()


@_of_every_histogram(num_bins=2048)
def test_entropy_objective_is_the_original(
    counts: np.ndarray, edges: np.ndarray, original_entropy: Callable[..., tuple[float, np.ndarray]]
) -> None:
    stride = 480
    _, divergences = original_entropy(counts, edges, stride)
    np.testing.assert_allclose(entropy_divergences(counts)[::stride], divergences, rtol=1e-6, atol=1e-12)


@_of_every_histogram(num_bins=600)
def test_mse_is_as_good_as_the_original(counts: np.ndarray, edges: np.ndarray) -> None:
    weights = torch.from_numpy(counts).double()
    centers = torch.from_numpy((edges[1:] + edges[:-1]) / 2).double()

    def objective(amax: torch.Tensor) -> torch.Tensor:
        quantized = fake_tensor_quant(centers, amax[:, None], 8, False)
        return ((quantized - centers) ** 2 * weights).mean(dim=1)

    errors = objective(centers[128:]).numpy()
    np.testing.assert_allclose(squared_errors(counts) * (edges[-1] / len(counts)) ** 2, errors, rtol=1e-4)
    assert objective(torch.tensor([mse_range(counts, edges)])).item() <= WITHIN * errors.min()


@_of_every_histogram(num_bins=2048)
@pytest.mark.parametrize("percentile", [50, 99, 99.99, 99.9999, 100])
def test_percentile_is_the_original(counts: np.ndarray, edges: np.ndarray, percentile: float) -> None:
    original = histogram._compute_amax_percentile(counts, edges, percentile).item()
    assert percentile_range(counts, edges, percentile) == pytest.approx(original or edges[-1])


def test_entropy_prefers_the_widest_of_equal_candidates(
    original_entropy: Callable[..., tuple[float, np.ndarray]],
) -> None:
    counts, edges = np.repeat(np.array([1, 0], np.int32), [256, 44]), np.linspace(0, 1, 301, dtype=np.float32)
    original, divergences = original_entropy(counts, edges)
    assert (divergences == divergences.min()).sum() > 1
    assert entropy_range(counts, edges) == original == 1


def test_counts_beyond_32_bits() -> None:
    counts, edges = _histograms(2048)["normal"]
    huge = counts.astype(np.float64) * 1e6
    assert percentile_range(huge, edges, 99.99) == percentile_range(counts, edges, 99.99)
    assert entropy_range(huge, edges) == pytest.approx(entropy_range(counts, edges))
    assert mse_range(huge, edges) == mse_range(counts, edges)


@pytest.mark.parametrize("search", [entropy_range, mse_range], ids=["entropy", "mse"])
def test_histogram_stays_as_it_is(search: Callable[[np.ndarray, np.ndarray], float]) -> None:
    counts, edges = (array.astype(np.float64) for array in _histograms(2048)["after a rectifier"])
    before = counts.copy(), edges.copy()
    search(counts, edges)
    np.testing.assert_array_equal(counts, before[0])
    np.testing.assert_array_equal(edges, before[1])
