"""Log-mel features, the input of every speaker network here, cached on disk by content."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np
import numpy.typing as npt

from speakerquant import schema_versions
from speakerquant.audio.decoding import unreadable
from speakerquant.audio.feature_extractor import FeatureExtractor
from speakerquant.audio.front_end import FrontEnd
from speakerquant.audio.waveform import ReadWaveform, inspect_waveform
from speakerquant.cache import Cache
from speakerquant.errors import UserError, enough_memory
from speakerquant.files import CHANGED, digest, file_digest
from speakerquant.progress import track

log = logging.getLogger(__name__)

FeatureArray = npt.NDArray[np.float32]

_BATCH = 32
_DOUBTS = "doubts.json"
_SHOWN = 5
_LONG_SECONDS = 600.0


class Features(Sequence[FeatureArray]):
    """The features ``[n_mels, T]`` of a list of recordings, which are read from disk one at a time.

    Raises:
        ValueError: the files in the folder are cut.
    """

    def __init__(self, folder: Path) -> None:
        self._frames = folder / "frames.npy"
        frames = np.load(self._frames, mmap_mode="r", allow_pickle=False)
        self._first_byte, self._n_mels = frames.offset, frames.shape[1]
        self._offsets = np.load(folder / "offsets.npy", allow_pickle=False)
        if len(frames) != self._offsets[-1]:
            raise ValueError(f"{len(frames)} frames of {self._offsets[-1]}")

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
        # Not mapped: pages that were read would count as the process's memory until they are unmapped.
        values = np.fromfile(
            self._frames,
            np.float32,
            self._n_mels * (self._offsets[index + 1] - self._offsets[index]),
            offset=self._first_byte + self._n_mels * self._offsets[index] * np.float32().itemsize,
        )
        return np.ascontiguousarray(values.reshape(-1, self._n_mels).T)


@dataclass(frozen=True)
class CachedFeatures:
    """The features of a list of recordings.

    Attributes:
        features: Features of each.
        digest: Digest of all that determines them.
        speech: Digest of the recordings' content and the channel, whatever the front end.
        recordings: Paths of the recordings.
        frames_per_second: Frames of the features per second of speech.
    """

    features: Features
    digest: str
    speech: str
    recordings: Sequence[Path]
    frames_per_second: float

    @property
    def seconds(self) -> float:
        """Length of all recordings together."""
        return sum(self.features.num_frames) / self.frames_per_second

    def longest(self) -> tuple[Path, float]:
        """The longest recording, and its seconds."""
        num_frames = self.features.num_frames
        index = int(np.argmax(num_frames))
        return self.recordings[index], num_frames[index] / self.frames_per_second

    @contextmanager
    def in_memory(self) -> Iterator[None]:
        """Within the block networks take the recordings: the longest one decides how much memory that needs.

        Raises:
            UserError: the block ran out of memory.
        """

        def who_needs() -> str:
            path, seconds = self.longest()
            return f"{path}: {seconds:.0f} s, the longest recording of its list, need"

        with enough_memory(who_needs):
            yield


def extract_features(
    recordings: Sequence[Path], front_end: FrontEnd, cache: Cache, channel: int | None = None
) -> CachedFeatures:
    """Return the features of the recordings in their order, computed unless the cache has them.

    The cache key is the content of the recordings, the channel and the front end; names and folders do not
    matter. Recordings that say little of their speaker, as they are silent, are named in a warning.

    Args:
        recordings: Their paths.
        front_end: Settings of the features.
        cache: Where the features are kept.
        channel: Which channel, from 1; without it, channels are averaged.

    Raises:
        UserError: a recording is missing, unreadable, too long for the memory, or shorter than one frame, or
            is changed meanwhile.
    """
    contents, versions = _contents(recordings)
    key = digest(schema_versions.FEATURES, asdict(front_end), channel, contents)

    def make(folder: Path) -> None:
        _write(folder, [*zip(recordings, versions, strict=True)], front_end, channel)

    def read(folder: Path) -> tuple[Features, Mapping[str, str]]:
        return Features(folder), json.loads((folder / _DOUBTS).read_text(encoding="utf-8"))

    features, doubts = cache.read("features", key, make, read)
    speech = digest(channel, contents)
    extracted = CachedFeatures(features, key, speech, recordings, front_end.frames_per_second)
    _warn(extracted, doubts)
    return extracted


def _warn(extracted: CachedFeatures, doubts: Mapping[str, str]) -> None:
    for index, doubt in [*doubts.items()][:_SHOWN]:
        log.warning("%s: %s", extracted.recordings[int(index)], doubt)
    if doubts:
        log.warning(
            "%d of %d recordings say little of their speakers, and move the error rate; take them off%s",
            *(len(doubts), len(extracted.recordings)),
            ", or choose another channel with data.channel"
            if any("channel" in doubt for doubt in doubts.values())
            else "",
        )
    path, seconds = extracted.longest()
    if seconds > _LONG_SECONDS:
        log.warning("%s: %.0f s long; memory and time grow with the longest recording", path, seconds)


def speech_digest(recordings: Sequence[Path], channel: int | None = None) -> str:
    """The digest :attr:`CachedFeatures.speech` of recordings, without their features; each is read.

    Raises:
        UserError: a recording is missing or unreadable.
    """
    return digest(channel, _contents(recordings)[0])


_Version = tuple[int, int]
"""Size and date of a file, which tell whether it was written since.

Its number would say more, but some network file systems number files anew while they are there.
"""

_Versions = Sequence[tuple[Path, _Version]]
"""Paths of recordings, and of which versions their digests are."""


def _version(path: Path) -> _Version:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _contents(recordings: Sequence[Path]) -> tuple[list[str], list[_Version]]:
    """Digests of the recordings' content, and of which versions of the files they are."""
    with ThreadPoolExecutor() as pool:
        found = [*track(pool.map(_content, recordings), "recordings", total=len(recordings))]
    return [content for content, _ in found], [version for _, version in found]


def _content(path: Path) -> tuple[str, _Version]:
    try:
        version = _version(path)
        return file_digest(path), version
    except FileNotFoundError as error:
        raise unreadable(path, error) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the recording ({error.strerror}); make it readable or take it off the list"
        ) from None


def _write(folder: Path, recordings: _Versions, front_end: FrontEnd, channel: int | None) -> None:
    folder.mkdir()
    lengths: list[int] = []
    doubts: dict[str, str] = {}
    with (folder / "frames.npy").open("wb") as file:
        _write_header(file, 0, front_end.n_mels)
        stream = _stream(recordings, front_end, channel)
        for features, doubt in track(stream, "features", total=len(recordings)):
            if doubt is not None:
                doubts[str(len(lengths))] = doubt
            lengths.append(features.shape[1])
            file.write(np.ascontiguousarray(features.T).tobytes())
        file.seek(0)
        _write_header(file, sum(lengths), front_end.n_mels)
    np.save(folder / "offsets.npy", np.cumsum([0, *lengths]))
    (folder / _DOUBTS).write_text(json.dumps(doubts), encoding="utf-8")


def _write_header(file: BinaryIO, num_frames: int, n_mels: int) -> None:
    """Write the header of an array ``[num_frames, n_mels]``; its length does not depend on the numbers."""
    description = np.lib.format.dtype_to_descr(np.dtype(np.float32))
    header = {"descr": description, "fortran_order": False, "shape": (num_frames, n_mels)}
    np.lib.format.write_array_header_1_0(file, header)


def _stream(
    recordings: _Versions, front_end: FrontEnd, channel: int | None
) -> Iterator[tuple[FeatureArray, str | None]]:
    """Yield features and doubt of one recording after another; a batch of them is processed in parallel."""
    extractor = FeatureExtractor(front_end)

    def extract(recording: tuple[Path, _Version]) -> tuple[FeatureArray, str | None]:
        path, version = recording
        with enough_memory(lambda: f"{path}: needs"):
            found = _read(path, front_end, channel)
            if _version(path) != version:  # or the entry's key would be that of another content
                raise UserError(f"{path}: {CHANGED}")
            return extractor.extract(found.waveform), found.doubt

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(recordings), _BATCH):
            yield from pool.map(extract, recordings[start : start + _BATCH])


def _read(path: Path, front_end: FrontEnd, channel: int | None) -> ReadWaveform:
    found = inspect_waveform(path, front_end.sample_rate, channel)
    if len(found.waveform) < front_end.min_samples:
        raise UserError(
            f"{path}: {len(found.waveform)} samples are shorter than one frame of {front_end.min_samples}; "
            "take the recording off the list"
        )
    return found
