"""Log-mel features, the input of every speaker network here, cached on disk by content."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np
import numpy.typing as npt

from speakerquant import formats
from speakerquant.audio.front_end import FeatureExtractor, FrontEnd
from speakerquant.audio.waveform import Waveform, read_waveform
from speakerquant.cache import Cache, digest, file_digest
from speakerquant.errors import UserError
from speakerquant.progress import track

FeatureArray = npt.NDArray[np.float32]

_BATCH = 32


class Features(Sequence[FeatureArray]):
    """The features ``[n_mels, T]`` of a list of recordings, which are read from disk one at a time."""

    def __init__(self, folder: Path) -> None:
        self._frames = folder / "frames.npy"
        self._offsets = np.load(folder / "offsets.npy", allow_pickle=False)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def num_frames(self) -> list[int]:
        """Number of frames of every recording, known without reading the features."""
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
        # Mapped anew each time: pages that were read count as the process's memory until they are unmapped.
        frames = np.load(self._frames, mmap_mode="r", allow_pickle=False)
        return np.ascontiguousarray(frames[self._offsets[index] : self._offsets[index + 1]].T)


@dataclass(frozen=True)
class CachedFeatures:
    """Features, and the digest of all that determines them."""

    features: Features
    digest: str


def extract_features(recordings: Sequence[Path], front_end: FrontEnd, cache: Cache) -> CachedFeatures:
    """Return the features of the recordings in their order, computed unless the cache has them.

    The cache key is the content of the recordings and the front end; names and folders do not matter.

    Raises:
        UserError: a recording is missing, unreadable or shorter than one frame.
    """
    with ThreadPoolExecutor() as pool:
        digests = pool.map(_recording_digest, recordings)
        contents = list(track(digests, "recordings", total=len(recordings)))
    key = digest(formats.FEATURES, asdict(front_end), contents)
    folder = cache.get("features", key, lambda path: _write(path, recordings, front_end))
    return CachedFeatures(Features(folder), key)


def _recording_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such recording; check the root folder and the list that names it"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the recording ({error.strerror}); make it readable or take it off the list"
        ) from None


def _write(folder: Path, recordings: Sequence[Path], front_end: FrontEnd) -> None:
    folder.mkdir()
    lengths: list[int] = []
    with (folder / "frames.npy").open("wb") as file:
        _write_header(file, 0, front_end.n_mels)
        for features in track(_stream(recordings, front_end), "features", total=len(recordings)):
            lengths.append(features.shape[1])
            file.write(np.ascontiguousarray(features.T).tobytes())
        file.seek(0)
        _write_header(file, sum(lengths), front_end.n_mels)
    np.save(folder / "offsets.npy", np.cumsum([0, *lengths]))


def _write_header(file: BinaryIO, num_frames: int, n_mels: int) -> None:
    """Write the header of an array ``[num_frames, n_mels]``; its length does not depend on the numbers."""
    description = np.lib.format.dtype_to_descr(np.dtype(np.float32))
    header = {"descr": description, "fortran_order": False, "shape": (num_frames, n_mels)}
    np.lib.format.write_array_header_1_0(file, header)


def _stream(recordings: Sequence[Path], front_end: FrontEnd) -> Iterator[FeatureArray]:
    """Yield the features of one recording after another; a batch of recordings is processed in parallel."""
    extractor = FeatureExtractor(front_end)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(recordings), _BATCH):
            batch = recordings[start : start + _BATCH]
            yield from pool.map(lambda path: extractor.extract(_read(path, front_end)), batch)


def _read(path: Path, front_end: FrontEnd) -> Waveform:
    waveform = read_waveform(path, front_end.sample_rate)
    if len(waveform) < front_end.n_fft:
        raise UserError(
            f"{path}: {len(waveform)} samples are shorter than one frame of {front_end.n_fft}; "
            "take the recording off the list"
        )
    return waveform
