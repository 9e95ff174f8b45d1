"""Log-mel features, the input of every speaker network here, cached on disk by content."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
import torchaudio
from torch import Tensor, nn

from speakerquant.audio.waveform import Waveform, read_waveform
from speakerquant.cache import Cache, digest, file_digest
from speakerquant.errors import UserError
from speakerquant.progress import track

FeatureArray = npt.NDArray[np.float32]

_BATCH = 32
_MAX_PADDED_SAMPLES = 10_000_000  # one long recording among short ones must not fill the memory
_FORMAT = 1  # raise it when the same recordings and front end come to give other numbers


@dataclass
class FrontEnd:
    """Settings of the log-mel front end; lengths in samples, frequencies in Hz."""

    sample_rate: int = 16000
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 80
    f_min: float = 20.0
    f_max: float = 7600.0
    preemphasis: float = 0.97

    @property
    def frames_per_second(self) -> float:
        """Of the features."""
        return self.sample_rate / self.hop_length

    def __post_init__(self) -> None:
        if not 0 < self.win_length <= self.n_fft:
            raise UserError(
                f"front_end.win_length={self.win_length}: must lie between 1 and n_fft={self.n_fft}"
            )
        if self.hop_length < 1 or self.n_mels < 1 or not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise UserError(
                "front_end: hop_length and n_mels must be positive, 0 <= f_min < f_max <= sample_rate / 2"
            )


class LogMel(nn.Module):
    """Waveforms ``[B, samples]`` to log-mel features ``[B, n_mels, T]``, mean over time removed.

    Frames lie wholly inside the waveform, so that a frame never depends on padding:
    ``T = 1 + (samples - n_fft) // hop_length``.
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
            center=False,
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        features = self.log_mel(waveforms)
        return features - features.mean(dim=2, keepdim=True)

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Log-mel features before the mean is removed."""
        emphasized = torchaudio.functional.preemphasis(waveforms, self.front_end.preemphasis)
        features: Tensor = (self.mel(emphasized) + self.floor).log()
        return features

    def num_frames(self, num_samples: int) -> int:
        """Frames that a waveform of ``num_samples`` gives."""
        return 1 + (num_samples - self.front_end.n_fft) // self.front_end.hop_length


class Features(Sequence[FeatureArray]):
    """Features of a list of recordings, each ``[n_mels, T]``; memory-mapped, read when asked for."""

    def __init__(self, folder: Path) -> None:
        self._frames = np.load(folder / "frames.npy", mmap_mode="r", allow_pickle=False)
        self._offsets = np.load(folder / "offsets.npy", allow_pickle=False)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def num_frames(self) -> list[int]:
        """Length of each, without reading it."""
        return [int(length) for length in np.diff(self._offsets)]

    @overload
    def __getitem__(self, index: int) -> FeatureArray: ...
    @overload
    def __getitem__(self, index: slice) -> list[FeatureArray]: ...
    def __getitem__(self, index: int | slice) -> FeatureArray | list[FeatureArray]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        if not 0 <= index < len(self):
            raise IndexError(index)
        frames = self._frames[self._offsets[index] : self._offsets[index + 1]]
        return np.ascontiguousarray(frames.T)


@dataclass(frozen=True)
class CachedFeatures:
    """Features beside the digest of all that determines them."""

    features: Features
    digest: str


def extract_features(recordings: Sequence[Path], front_end: FrontEnd, cache: Cache) -> CachedFeatures:
    """Features of the recordings in their order, computed unless the cache has them.

    The cache key is the content of the recordings and the front end; names and folders do not matter.

    Raises:
        UserError: a recording is missing, unreadable or shorter than one frame.
    """
    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(_recording_digest, recordings))
    key = digest(_FORMAT, asdict(front_end), contents)
    folder = cache.get("features", key, lambda path: _write(path, recordings, front_end))
    return CachedFeatures(Features(folder), key)


def _recording_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such recording; check the root folder and the list that names it"
        ) from None


def _write(folder: Path, recordings: Sequence[Path], front_end: FrontEnd) -> None:
    folder.mkdir()
    log_mel = LogMel(front_end)
    lengths: list[int] = []
    with (folder / "frames.raw").open("wb") as file, ThreadPoolExecutor() as pool:
        for features in track(_stream(recordings, log_mel, pool), "features", total=len(recordings)):
            lengths.append(features.shape[1])
            file.write(np.ascontiguousarray(features.T).tobytes())
    frames = np.memmap(folder / "frames.raw", np.float32, "r", shape=(sum(lengths), front_end.n_mels))
    np.save(folder / "frames.npy", frames)
    (folder / "frames.raw").unlink()
    np.save(folder / "offsets.npy", np.cumsum([0, *lengths]))


def _stream(recordings: Sequence[Path], log_mel: LogMel, pool: ThreadPoolExecutor) -> Iterator[FeatureArray]:
    """Features one by one, read and transformed a batch at a time."""
    for start in range(0, len(recordings), _BATCH):
        paths = recordings[start : start + _BATCH]
        batch: list[Waveform] = []
        for waveform in pool.map(lambda path: _read(path, log_mel.front_end), paths):
            longest = max(map(len, [*batch, waveform]))
            if batch and longest * (len(batch) + 1) > _MAX_PADDED_SAMPLES:
                yield from _transform(batch, log_mel)
                batch = []
            batch.append(waveform)
        yield from _transform(batch, log_mel)


def _read(path: Path, front_end: FrontEnd) -> Waveform:
    waveform = read_waveform(path, front_end.sample_rate)
    if len(waveform) < front_end.n_fft:
        raise UserError(
            f"{path}: {len(waveform)} samples are shorter than one frame of {front_end.n_fft}; "
            "take the recording off the list"
        )
    return waveform


def _transform(waveforms: Sequence[Waveform], log_mel: LogMel) -> Iterator[FeatureArray]:
    """One padded batch through the front end; padding never reaches the frames that are kept."""
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(w) for w in waveforms], batch_first=True)
    with torch.inference_mode():
        batch = log_mel.log_mel(padded)
        for waveform, features in zip(waveforms, batch, strict=True):
            kept = features[:, : log_mel.num_frames(len(waveform))]
            yield (kept - kept.mean(dim=1, keepdim=True)).numpy()
