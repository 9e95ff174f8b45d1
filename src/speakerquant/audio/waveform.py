"""Reads recordings: any sample rate and channel count in, mono at one rate out."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
import torchaudio.functional
from numpy.random import Generator

from speakerquant.errors import UserError, first_line

Waveform = npt.NDArray[np.float32]

_STREAMED = 0x7FFF0000  # programs that write to a pipe promise this much or more, not knowing the length

_COMPRESSED = ".m4a"
EXTENSIONS = frozenset({".wav", ".flac", _COMPRESSED})


def read_waveform(path: Path, sample_rate: int) -> Waveform:
    """Read a whole recording as mono ``[samples]`` in [-1, 1] at ``sample_rate`` Hz; channels are averaged.

    Raises:
        UserError: the file is missing, empty, truncated, not audio, or holds non-finite samples.
    """
    if _is_compressed(path):
        return _decode(path, sample_rate)
    try:
        with soundfile.SoundFile(path) as file:
            if _is_cut_wav(file.extra_info):
                raise _unusable(path, "truncated recording")
            frames, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from None
    if len(samples) < frames:
        raise _unusable(path, "truncated recording")
    if len(samples) == 0:
        raise _unusable(path, "empty recording")
    mono: Waveform = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise _unusable(path, "recording holds NaN or infinite samples")
    return resample(mono, rate, sample_rate)


def read_random_part(path: Path, length: int, sample_rate: int, rng: Generator) -> Waveform:
    """Read ``[length]`` samples from a random place of a recording; a shorter recording is repeated.

    Raises:
        UserError: as :func:`read_waveform`.
    """
    try:
        info = None if _is_compressed(path) else soundfile.info(path)
        fits = info and info.samplerate == sample_rate and info.channels == 1 and info.frames > length
        if info and fits:
            start = int(rng.integers(info.frames - length + 1))
            part: Waveform = soundfile.read(path, frames=length, start=start, dtype="float32")[0]
            if len(part) == length and np.isfinite(part).all():
                return part
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from None
    waveform = read_waveform(path, sample_rate)
    waveform = np.tile(waveform, -(-length // len(waveform)))
    start = int(rng.integers(len(waveform) - length + 1))
    return waveform[start : start + length]


def stored_rate(path: Path) -> int | None:
    """Return the sample rate of a readable recording in Hz.

    Compressed recordings, which are decoded at any rate, have none.
    """
    return None if _is_compressed(path) else int(soundfile.info(path).samplerate)


def resample(waveform: Waveform, source_rate: int, target_rate: int) -> Waveform:
    """Resample a waveform ``[samples]`` with a band-limiting filter."""
    if source_rate == target_rate:
        return waveform
    resampled: Waveform = torchaudio.functional.resample(
        torch.from_numpy(waveform), source_rate, target_rate
    ).numpy()
    return resampled


def _is_compressed(path: Path) -> bool:
    return path.suffix.lower() == _COMPRESSED


def _decode(path: Path, sample_rate: int) -> Waveform:
    """Decode a recording with ffmpeg: VoxCeleb2 is distributed as m4a, which libsndfile does not read."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        convert = f'ffmpeg -nostdin -n -i "$1" -ac 1 -ar {sample_rate} "${{1%.m4a}}.wav"'
        raise UserError(
            f"{path}: m4a needs ffmpeg, which is not installed; or convert the corpus where it is, in its "
            f"folder: find . -name '*.m4a' -exec sh -c '{convert}' _ {{}} \\;"
        )
    output = f"-ac 1 -ar {sample_rate} -f f32le -".split()
    command = [ffmpeg, "-v", "error", "-i", f"file:{path}", *output]
    decoded = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if decoded.returncode or not decoded.stdout:
        said = decoded.stderr.decode(errors="replace").strip().splitlines()
        raise _unreadable(path, RuntimeError(said[-1] if said else "ffmpeg found no audio"))
    return np.frombuffer(decoded.stdout, np.float32).copy()


def _is_cut_wav(log: str) -> bool:
    """Tell whether the header promises more samples than there are, which only libsndfile's log says."""
    match = re.search(r"^data : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    return match is not None and int(match[2]) < int(match[1]) < _STREAMED


def _unreadable(path: Path, error: Exception) -> UserError:
    if not path.exists():
        return UserError(f"{path}: no such recording; check the root folder and the list that names it")
    if path.is_file() and path.stat().st_size == 0:
        return _unusable(path, "empty recording")
    return _unusable(path, f"cannot read the recording, truncated or damaged ({first_line(error)})")


def _unusable(path: Path, problem: str) -> UserError:
    return UserError(f"{path}: {problem}; restore the file or take it off the list")
