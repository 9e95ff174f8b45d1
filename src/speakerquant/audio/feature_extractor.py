"""Computes the features that a front end describes."""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from torchaudio.compliance import kaldi

from speakerquant.audio.front_end import FrontEnd, FrontEndKind


class LogMel(nn.Module):
    """The logarithm of mel-filtered power spectra after pre-emphasis, by torchaudio's definitions.

    Frames lie wholly inside the waveform, so that a frame never depends on padding:
    ``T = 1 + (samples - n_fft) // hop_length``; with ``center`` they reach beyond it into its reflection.
    """

    floor = 1e-6

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end = front_end
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=front_end.sample_rate,
            n_fft=front_end.n_fft,
            win_length=front_end.win_length,
            hop_length=front_end.hop_length,
            f_min=front_end.f_min,
            f_max=front_end.f_max,
            n_mels=front_end.n_mels,
            window_fn=torch.hamming_window,
            center=front_end.center,
        )

    @property
    def bands(self) -> Tensor:
        """What each band weighs each frequency by, ``[n_mels, frequencies]``."""
        weights: Tensor = self.mel.mel_scale.fb
        return weights.T

    def forward(self, waveforms: Tensor) -> Tensor:
        if self.front_end.center:
            waveforms = F.pad(waveforms, (1, 0), mode="reflect")
            emphasized = waveforms[:, 1:] - self.front_end.preemphasis * waveforms[:, :-1]
        else:
            emphasized = torchaudio.functional.preemphasis(waveforms, self.front_end.preemphasis)
        features: Tensor = (self.mel(emphasized) + self.floor).log()
        return features


class SpeechBrainFbank(nn.Module):
    """SpeechBrain's filterbank: power under symmetric triangles in dB, at most 80 dB below the maximum."""

    floor = 1e-10
    range_db = 80.0
    bands: Tensor
    """What each band weighs each frequency by, ``[n_mels, frequencies]``: a triangle."""

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.spectrogram = torchaudio.transforms.Spectrogram(
            n_fft=front_end.n_fft,
            win_length=front_end.win_length,
            hop_length=front_end.hop_length,
            window_fn=torch.hamming_window,
            pad_mode="constant",
        )
        mels = torch.linspace(_mel(front_end.f_min), _mel(front_end.f_max), front_end.n_mels + 2)
        hertz = 700 * (10 ** (mels / 2595) - 1)
        widths = (hertz[1:] - hertz[:-1])[:-1]
        frequencies = torch.linspace(0, front_end.sample_rate // 2, front_end.n_fft // 2 + 1)
        distances = (frequencies - hertz[1:-1, None]) / widths[:, None]
        self.register_buffer("bands", (1 - distances.abs()).clamp(min=0))

    def forward(self, waveforms: Tensor) -> Tensor:
        power = self.bands @ self.spectrogram(waveforms)
        decibels = 10 * power.clamp(min=self.floor).log10()
        return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - self.range_db)


class KaldiFbank(nn.Module):
    """Kaldi's filterbank, without dither."""

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end = front_end

    @property
    def bands(self) -> Tensor:
        """What each band weighs each frequency by, ``[n_mels, frequencies]``."""
        front_end = self.front_end
        weights: Tensor
        weights, _ = kaldi.get_mel_banks(
            front_end.n_mels,
            front_end.transform_length,
            front_end.sample_rate,
            front_end.f_min,
            front_end.f_max,
            vtln_low=100.0,
            vtln_high=-500.0,
            vtln_warp_factor=1.0,
        )
        return weights

    def forward(self, waveforms: Tensor) -> Tensor:
        front_end = self.front_end
        features = [
            kaldi.fbank(
                waveform[None] * front_end.waveform_scale,
                num_mel_bins=front_end.n_mels,
                sample_frequency=front_end.sample_rate,
                frame_length=milliseconds(front_end.win_length, front_end.sample_rate),
                frame_shift=milliseconds(front_end.hop_length, front_end.sample_rate),
                low_freq=front_end.f_min,
                high_freq=front_end.f_max,
                preemphasis_coefficient=front_end.preemphasis,
                window_type=front_end.window.value,
                snip_edges=not front_end.center,
                dither=0.0,
            ).T
            for waveform in waveforms
        ]
        return torch.stack(features)


_KINDS: dict[FrontEndKind, type[LogMel | SpeechBrainFbank | KaldiFbank]] = {
    FrontEndKind.log_mel: LogMel,
    FrontEndKind.speechbrain: SpeechBrainFbank,
    FrontEndKind.kaldi: KaldiFbank,
}


class FeatureExtractor(nn.Module):
    """Turns waveforms ``[B, samples]`` in [-1, 1] into features ``[B, n_mels, T]``, as the front end says."""

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.filterbank = _KINDS[front_end.kind](front_end)
        self.subtracts_mean = front_end.subtract_mean

    @property
    def num_empty_bands(self) -> int:
        """Number of mel bands that hold no frequency of the Fourier transform: what they give never moves."""
        return int((self.filterbank.bands <= 0).all(dim=1).sum())

    def forward(self, waveforms: Tensor) -> Tensor:
        features: Tensor = self.filterbank(waveforms)
        return features - features.mean(dim=2, keepdim=True) if self.subtracts_mean else features

    def extract(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the features ``[n_mels, T]`` of one waveform ``[samples]``."""
        with torch.inference_mode():
            features: npt.NDArray[np.float32] = self(torch.from_numpy(waveform)[None])[0].numpy()
        return features


def milliseconds(num_samples: int, sample_rate: int) -> float:
    """Return a length for torchaudio's Kaldi, which cuts what is left of a sample: here half of one."""
    return 1000 * (num_samples + 0.5) / sample_rate


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
