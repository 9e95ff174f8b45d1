"""The settings of the front end, which turns waveforms into the features that a network was trained on."""

from dataclasses import dataclass
from enum import StrEnum

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

    @property
    def min_samples(self) -> int:
        """Fewest samples of a recording, those of one frame."""
        return self.win_length if self.kind is FrontEndKind.kaldi else self.n_fft

    @property
    def transform_length(self) -> int:
        """Length of the Fourier transform that the kind computes."""
        is_kaldis = self.kind is FrontEndKind.kaldi
        return 1 << (self.win_length - 1).bit_length() if is_kaldis else self.n_fft

    def check_settings(self) -> None:
        """Refuse what has been set although the kind does not read it; files may hold such front ends.

        Raises:
            UserError: there is such a setting.
        """
        unread = {
            FrontEndKind.speechbrain: ("preemphasis", "center"),
            FrontEndKind.kaldi: () if self.n_fft == self.transform_length else ("n_fft",),
        }
        for name in unread.get(self.kind, ()):
            if (value := getattr(self, name)) != getattr(FrontEnd, name):
                remedy = (
                    f"give {self.transform_length}, which it takes" if name == "n_fft" else "leave it out"
                )
                raise UserError(f"front_end.{name}={value}: the kind {self.kind} does not read it; {remedy}")

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
