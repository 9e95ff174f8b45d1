"""Decodes recordings, by libsndfile or by FFmpeg's libraries, and tells those that were cut from whole ones.

What a header promises is compared with what decodes, as far as the container says it exactly, and the
decoders' own complaints are heeded: both libraries return the rest of a cut file as if it were all.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soundfile
from av.container import InputContainer

from speakerquant.errors import UserError, first_line

_BLOCK = 1 << 20  # samples of one channel that are read at a time
_STREAMED = 0x7F000000  # programs that write to a pipe promise as many bytes or more: they do not know
_UNKNOWN = {1, 4, 18, 64}  # libsndfile's codes for formats and encodings, in SPHERE and in WAV, that it lacks
_HEADER = 4096  # bytes, more than a file without samples has
_OGG_PAGE = b"OggS"
_LARGEST_OGG_PAGE = 65307  # bytes
_ID3_HEADER = 10  # bytes
_MPEG_SYNC = re.compile(rb"\xff[\xe0-\xff]")  # how a frame of an MP3 begins
_MPEG_PADDING = 4096  # bytes that may lie before the first one
_XING_ENDS = 42  # bytes into it: behind header, checksum, side information and the word
_SLACK = 0.25  # seconds by which a container's duration exceeds what its codec keeps

EXTENSIONS = frozenset(
    {
        *(".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus"),
        *(".sph", ".voc", ".w64", ".wav", ".wma"),
    }
)
"""Suffixes of audio files, which are found in folders; a list may name whatever decodes, videos too."""

# Where the headers of libsndfile's formats state the length of the samples, as its log shows them.
_LENGTHS = re.compile(
    r"^\s*(?:data|SSND|Data Size|riff)\s*: (?P<promised>\d+) \(should be (?P<present>\d+)\)"
    r"|Calculated frame count (?P<frames>\d+) does not match value from 'ds64' chunk of "
    r"(?P<promised_frames>\d+)"
    r"|(?P<truncated>Seems to be a truncated file)",
    re.MULTILINE,
)
_OPENS_NOTHING = {"protocol_whitelist": ""}  # playlists name other files, and addresses of the network
_ESTIMATED = "Estimating duration from bitrate"  # FFmpeg's warning that the container states none

av.logging.set_level(av.logging.WARNING)
av.logging.set_skip_repeated(False)  # otherwise a second file's equal complaint would be kept from its log


@dataclass(frozen=True)
class Sound:
    """A decoded recording.

    Attributes:
        samples: ``[samples, channels]`` in [-1, 1].
        sample_rate: In Hz.
        doubt: Why it may not be whole although nothing is missing; none if it is.
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int
    doubt: str | None = None


def decode(path: Path) -> Sound:
    """Decode a whole recording.

    Raises:
        UserError: the file is missing, empty, cut, damaged or not audio.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if not has_open_length(file):
                return _by_libsndfile(path, file)
    except soundfile.LibsndfileError as error:
        if not _has_content(path) or not (error.code in _UNKNOWN or _is_ogg(path)):
            raise unreadable(path, error) from None
    except OSError as error:
        raise unreadable(path, error) from None
    if not _is_ogg(path):
        return _by_ffmpeg(path)
    page = _last_ogg_page(path)
    if not page.is_whole:
        raise unusable(path, "truncated recording")  # of which libsndfile may not know any more what it was
    return replace(_by_ffmpeg(path), doubt=page.doubt)


def has_open_length(file: soundfile.SoundFile) -> bool:
    """Tell whether the header leaves the length open, as writing to a pipe or a killed recorder does."""
    return bool(file.frames >= 1 << 62 or (file.frames == 0 and Path(file.name).stat().st_size > _HEADER))


def unreadable(path: Path, error: Exception) -> UserError:
    """Say why a recording could not be opened or decoded."""
    if not path.exists():
        return UserError(f"{path}: no such recording; check the root folder and the list that names it")
    if path.is_file() and not _has_content(path):
        return unusable(path, "empty recording")
    return unusable(path, f"cannot read the recording, truncated or damaged ({first_line(error)})")


def unusable(path: Path, problem: str) -> UserError:
    """Say what is wrong with a recording."""
    return UserError(f"{path}: {problem}; restore the file or take it off the list")


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _by_libsndfile(path: Path, file: soundfile.SoundFile) -> Sound:
    """Read to the end, which need not be where the header says: some codecs' counts are estimates."""
    blocks: list[npt.NDArray[np.float32]] = []
    while len(block := file.read(out=np.empty((_BLOCK, file.channels), np.float32))):
        blocks.append(block)
    samples = np.concatenate(blocks) if blocks else np.empty((0, file.channels), np.float32)
    page = _last_ogg_page(path) if file.format == "OGG" else None
    is_cut = not page.is_whole if page else _is_cut(path, file, len(samples))
    if is_cut:
        raise unusable(path, "truncated recording")
    return Sound(samples, int(file.samplerate), page.doubt if page else None)


def _is_cut(path: Path, file: soundfile.SoundFile, num_read: int) -> bool:
    for found in _LENGTHS.finditer(file.extra_info):
        if found["truncated"]:
            return True
        if found["promised"] and int(found["present"]) < int(found["promised"]) < _STREAMED:
            return True
        if found["frames"] and int(found["frames"]) < int(found["promised_frames"]):
            return True
    if file.format == "NIST":
        return num_read < _nist_sample_count(path)
    return bool(num_read < file.frames) and (not file.subtype.startswith("MPEG") or _counts_mpeg_frames(path))


def _is_ogg(path: Path) -> bool:
    """Tell whether a file is Ogg, of whose codecs libsndfile knows some: not Speex, nor every FLAC."""
    with path.open("rb") as file:
        return file.read(len(_OGG_PAGE)) == _OGG_PAGE


@dataclass(frozen=True)
class _OggPage:
    """The last page of an Ogg file, which some recorders, as those of phones, do not mark as the last.

    Attributes:
        is_whole: Whether all of it is there.
        is_marked: Whether it is marked as the last.
    """

    is_whole: bool
    is_marked: bool

    @property
    def doubt(self) -> str | None:
        return None if self.is_marked else "the end of its stream is not marked, so that it may be cut"


def _last_ogg_page(path: Path) -> _OggPage:
    """Read the last page (RFC 3533, 64 KB at most)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LARGEST_OGG_PAGE))
        page = file.read().rpartition(_OGG_PAGE)[2]
    header, num_segments = 23, page[22] if len(page) > 22 else 0
    segments = page[header : header + num_segments]
    is_whole = len(segments) == num_segments and len(page) >= header + num_segments + sum(segments)
    return _OggPage(bool(num_segments and is_whole), bool(page[1:2] and page[1] & 4))


def _nist_sample_count(path: Path) -> int:
    with path.open("rb") as file:
        match = re.search(rb"^sample_count -i (\d+)", file.read(1024), re.MULTILINE)
    return int(match[1]) if match else 0


def _counts_mpeg_frames(path: Path) -> bool:
    """Tell whether an MP3 file says in its first frame how many it has; otherwise libsndfile estimates it."""
    with path.open("rb") as file:
        while (start := file.read(_ID3_HEADER)).startswith(b"ID3"):  # a tag, whose titles may hold any word
            length = reduce(lambda higher, lower: higher << 7 | lower, start[6:])
            footer = _ID3_HEADER if start[5] & 0x10 else 0
            file.seek(length + footer, os.SEEK_CUR)
        start += file.read(_MPEG_PADDING)
    sync = None if start.startswith(b"RIFF") else _MPEG_SYNC.search(start)
    frame = start[sync.start() :][:_XING_ENDS] if sync else b""
    return b"Xing" in frame or b"Info" in frame


def _by_ffmpeg(path: Path) -> Sound:
    """Decode what libsndfile does not, such as the m4a in which VoxCeleb2 is distributed."""
    with av.logging.Capture() as log:
        try:
            with (
                path.open("rb") as file,
                av.open(file, "r", container_options=_OPENS_NOTHING, metadata_errors="replace") as container,
            ):
                sound = _first_audio_stream(container)
                promised = _promised_duration(container) if sound else 0.0
        except av.FFmpegError as error:
            raise unreadable(path, RuntimeError(_complaint(log) or error.strerror)) from None
    if complaint := _complaint(log):
        raise unreadable(path, RuntimeError(complaint))
    if not sound:
        raise unusable(path, "cannot read the recording, in which is no audio that FFmpeg decodes")
    is_exact = not any(message.startswith(_ESTIMATED) for _, _, message in log)
    is_short = len(sound.samples) / sound.sample_rate < promised - _SLACK
    if is_exact and is_short:
        raise unusable(path, "truncated recording")
    return sound


def _first_audio_stream(container: InputContainer) -> Sound | None:
    """Decode it; where its sample rate or channels change, it is converted to those that it began with."""
    stream = next(iter(container.streams.audio), None)
    if not stream or not stream.codec_context:
        return None
    stream.codec_context.thread_count = 1  # what other threads log is not captured
    frames = (frame for packet in container.demux(stream) for frame in packet.decode())
    resampler = av.AudioResampler("flt")
    blocks: list[npt.NDArray[np.float32]] = []
    for _, alike in groupby(frames, lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        resampler = av.AudioResampler("flt", resampler.layout, resampler.rate)
        for frame in (*alike, None):
            blocks.extend(part.to_ndarray()[0] for part in resampler.resample(frame))
    if not blocks:
        return None
    return Sound(np.concatenate(blocks).reshape(-1, resampler.layout.nb_channels), resampler.rate)


def _promised_duration(container: InputContainer) -> float:
    """What the container says of its first audio stream, in seconds: 0 if nothing."""
    stream = container.streams.audio[0]
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    is_alone = len(container.streams) == 1  # otherwise the longest stream's duration is the container's
    return container.duration / av.time_base if is_alone and container.duration is not None else 0.0


def _complaint(log: Sequence[tuple[int, str, str]]) -> str | None:
    """The last error that FFmpeg logged, which it need not raise."""
    errors = [message for level, _, message in log if level <= av.logging.ERROR]
    return errors[-1] if errors else None
