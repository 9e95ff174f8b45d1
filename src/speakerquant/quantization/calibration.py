"""Calibration: measures the ranges of a network's inputs and weights on held-out recordings."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from speakerquant.errors import UserError
from speakerquant.quantization.histogram_search import entropy_range, mse_range, percentile_range
from speakerquant.quantization.pytorch_quantization import HistogramCalibrator, MaxCalibrator
from speakerquant.quantization.quantizers import QuantizedLayer, insert_quantizers, quantized_layers
from speakerquant.quantization.ranges import CalibrationTable

METHODS = ("max", "percentile", "entropy", "mse")

_SMALLEST = 2.0**-24  # NVIDIA's quantizer takes ranges up to this for zero


def calibrate(
    model: nn.Module, features: Iterable[Tensor], method: str = "percentile", percentile: float = 99.99
) -> CalibrationTable:
    """Ranges of every layer that can be quantized, measured with all quantizers off: they fit every mask.

    Weights always get their maximum per output channel. Inputs get, over all recordings, by ``method``:

    - ``max``: the largest magnitude;
    - ``percentile``: the magnitude that ``percentile`` percent do not exceed. The default needs no search and
      is close to the clipping that minimises the squared error of eight bits for Gaussian (99.991) and
      Laplacian (99.995) values (Banner, Nahshan, Soudry, NeurIPS 2019);
    - ``entropy``: the least divergence between the histograms before and after quantization;
    - ``mse``: the least squared quantization error.

    Args:
        model: network in FP32, on the device that shall do the work; it is not changed.
        features: recordings, ``[n_mels, T]`` or ``[B, n_mels, T]`` each, taken once and in order.
        method: one of :data:`METHODS`.
        percentile: for ``percentile``, above 0 and at most 100.

    Raises:
        UserError: unknown method, percentile out of bounds, no recordings, or values that are not finite.
    """
    check_method(method, percentile)
    network = insert_quantizers(model)
    layers = quantized_layers(network)
    # Before any layer computes, or one would be named whose input a broken weight makes.
    weight_ranges = {name: _usable(_weight_range(name, layer)) for name, layer in layers.items()}
    calibrators = {name: _watch_input(name, layer) for name, layer in layers.items()}
    if not forward_all(network, features):
        raise UserError("calibration: there are no recordings to calibrate on; check data.calibration_root")
    return CalibrationTable(
        method,
        {
            name: float(_usable(c.compute_amax(method, percentile=percentile)))
            for name, c in calibrators.items()
        },
        weight_ranges,
    )


def check_method(method: str, percentile: float) -> None:
    """Raises UserError unless :func:`calibrate` can use these; for callers with much to do before it."""
    if method not in METHODS:
        raise UserError(f"calibration.method: unknown method {method!r}; valid are {', '.join(METHODS)}")
    if not 0 < percentile <= 100:
        raise UserError(f"calibration.percentile: {percentile} is out of bounds; choose above 0, at most 100")


class InputCalibrator(HistogramCalibrator):
    """NVIDIA's histogram calibrator with the exact maximum, our searches, and a bound on its bins.

    The first input sets the width of the bins, so that after a nearly silent one the next would demand
    millions of them: beyond ``max_bins``, bins are merged until about ``num_bins`` are left. Where magnitudes
    stay within eight times the first maximum, the histogram is the original's.
    """

    num_bins = 2048
    max_bins = 8 * num_bins

    _calib_hist: Tensor
    _calib_bin_edges: Tensor

    def __init__(self) -> None:
        super().__init__(num_bits=8, axis=None, unsigned=False, num_bins=self.num_bins)
        self._peak = 0.0

    def collect(self, x: Tensor) -> None:
        """Count the magnitudes of ``x``, of any shape and finite; an input of zeros says nothing."""
        peak = x.abs().max().item()
        if peak <= _SMALLEST:
            return
        if self._peak > 0 and peak > self.max_bins * self._width:
            while peak > self.num_bins * self._width:
                self._double_width()
        super().collect(x)
        self._peak = max(self._peak, peak)

    def histogram(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Counts ``[bins]`` and edges ``[bins + 1]`` of what was collected, if that was not all zeros."""
        counts = self._calib_hist.double().cpu().numpy()
        # histc divides the span evenly; the original's list of edges can be one off through rounding
        return counts, np.linspace(0, self._calib_bin_edges[-1].item(), len(counts) + 1)

    def compute_amax(self, method: str, *, percentile: float) -> float:
        """The range by one of :data:`METHODS`; zero if nothing but zeros was collected."""
        if method == "max" or self._peak == 0:
            return self._peak
        if method == "percentile":
            return percentile_range(*self.histogram(), percentile)
        return {"entropy": entropy_range, "mse": mse_range}[method](*self.histogram())

    @property
    def _width(self) -> float:
        return float(self._calib_bin_edges[1] - self._calib_bin_edges[0])

    def _double_width(self) -> None:
        width = 2 * self._width
        padded = nn.functional.pad(self._calib_hist, (0, len(self._calib_hist) % 2))
        self._calib_hist = padded.view(-1, 2).sum(dim=1)
        self._num_bins = len(self._calib_hist)
        self._calib_bin_edges = width * torch.arange(self._num_bins + 1, device=padded.device)


def _watch_input(name: str, layer: QuantizedLayer) -> InputCalibrator:
    """A calibrator that sees whatever reaches the layer's input quantizer."""
    calibrator = InputCalibrator()

    def collect(_: nn.Module, inputs: tuple[Tensor]) -> None:
        if not inputs[0].isfinite().all():
            raise UserError(
                f"calibration: the input of {name} is not finite; check the checkpoint and the recordings"
            )
        calibrator.collect(inputs[0])

    layer.input_quantizer.register_forward_pre_hook(collect)
    return calibrator


def forward_all(network: nn.Module, features: Iterable[Tensor]) -> int:
    """Run the network, where it is, on recordings ``[n_mels, T]`` or ``[B, n_mels, T]`` and count them."""
    device = next(network.parameters()).device
    count = 0
    # cuDNN would round to TF32 on its own
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for recording in features:
            count += 1
            batch = recording if recording.dim() == 3 else recording.unsqueeze(0)
            network(batch.to(device))
    return count


def _weight_range(name: str, layer: QuantizedLayer) -> npt.NDArray[np.float32]:
    calibrator = MaxCalibrator(num_bits=8, axis=(0,), unsigned=False)
    calibrator.collect(layer.weight.detach())
    ranges: npt.NDArray[np.float32] = calibrator.compute_amax().flatten().cpu().numpy()
    if not np.isfinite(ranges).all():
        raise UserError(f"calibration: the weight of {name} is not finite; check the checkpoint")
    return ranges


def _usable(ranges: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Ranges with 1 for those that NVIDIA's quantizer takes for zero: the values become zero all the same."""
    ranges = np.asarray(ranges, np.float32)
    return np.where(ranges <= _SMALLEST, np.float32(1), ranges)
