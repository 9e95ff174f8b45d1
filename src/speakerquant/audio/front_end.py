"""The front end, which turns waveforms into the features that a network was trained on."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from torchaudio.compliance import kaldi

from speakerquant.errors import UserError


class FrontEndKind(StrEnum):
    """The software whose definition of log-mel features is used."""

    log_mel = "log_mel"
    speechbrain = "speechbrain"
    kaldi = "kaldi"


class Window(StrEnum):
    """The window function that a frame is multiplied with."""

    hamming = "hamming"
    povey = "povey"


@dataclass
class FrontEnd:
    """Settings of the front end; lengths in samples, frequencies in Hz.

    Attributes:
        kind: Definition of the features.
        sample_rate: Sample rate of the waveforms.
        n_fft: Length of the Fourier transform (kaldi: the next power of two above ``win_length``).
        win_length: Length of a frame.
        hop_length: Distance from the start of one frame to that of the next.
        n_mels: Number of mel bands.
        f_min: Lower end of the lowest band.
        f_max: Upper end of the highest band.
        preemphasis: Coefficient of the pre-emphasis (log_mel and kaldi).
        center: Whether frames reach beyond the ends, into the waveform's reflection: centred on multiples of
            ``hop_length`` (log_mel), or between them (kaldi, which calls the opposite ``snip_edges``).
        window: Window function of a frame (kaldi; Hamming for the others).
        waveform_scale: Largest value of a waveform, 1 or 32768 (kaldi).
        subtract_mean: Whether each band's mean over the recording is subtracted.
    """

    kind: FrontEndKind = FrontEndKind.log_mel
    sample_rate: int = 16000
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 80
    f_min: float = 20.0
    f_max: float = 7600.0
    preemphasis: float = 0.97
    center: bool = False
    window: Window = Window.hamming
    waveform_scale: float = 1.0
    subtract_mean: bool = True

    @property
    def frames_per_second(self) -> float:
        """Number of frames in a second of speech."""
        return self.sample_rate / self.hop_length

    def __post_init__(self) -> None:
        self.kind, self.window = FrontEndKind(self.kind), Window(self.window)
        if not 0 < self.win_length <= self.n_fft:
            raise UserError(
                f"front_end.win_length={self.win_length}: must lie between 1 and n_fft={self.n_fft}"
            )
        if self.hop_length < 1 or self.n_mels < 1 or not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise UserError(
                "front_end: hop_length and n_mels must be positive, 0 <= f_min < f_max <= sample_rate / 2"
            )
        if self.kind is not FrontEndKind.kaldi and (self.window, self.waveform_scale) != (Window.hamming, 1):
            raise UserError(f"front_end: window and waveform_scale are fixed for the kind {self.kind}")


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
        self.register_buffer("triangles", (1 - distances.abs()).clamp(min=0))

    def forward(self, waveforms: Tensor) -> Tensor:
        power = self.triangles @ self.spectrogram(waveforms)
        decibels = 10 * power.clamp(min=self.floor).log10()
        return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - self.range_db)


class KaldiFbank(nn.Module):
    """Kaldi's filterbank, without dither."""

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end = front_end

    def forward(self, waveforms: Tensor) -> Tensor:
        front_end = self.front_end
        features = [
            kaldi.fbank(
                waveform[None] * front_end.waveform_scale,
                num_mel_bins=front_end.n_mels,
                sample_frequency=front_end.sample_rate,
                frame_length=1000 * front_end.win_length / front_end.sample_rate,
                frame_shift=1000 * front_end.hop_length / front_end.sample_rate,
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


_KINDS: dict[FrontEndKind, type[nn.Module]] = {
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

    def forward(self, waveforms: Tensor) -> Tensor:
        features: Tensor = self.filterbank(waveforms)
        return features - features.mean(dim=2, keepdim=True) if self.subtracts_mean else features

    def extract(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the features ``[n_mels, T]`` of one waveform ``[samples]``."""
        with torch.inference_mode():
            features: npt.NDArray[np.float32] = self(torch.from_numpy(waveform)[None])[0].numpy()
        return features


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
