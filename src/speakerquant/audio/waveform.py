"""Reads recordings: any sample rate and channel count in, mono at one rate out."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
import torchaudio.functional

from speakerquant.errors import UserError

Waveform = npt.NDArray[np.float32]

EXTENSIONS = frozenset({".wav", ".flac"})


def read_waveform(path: Path, sample_rate: int) -> Waveform:
    """The whole recording as mono ``[samples]`` in [-1, 1] at ``sample_rate`` Hz; channels are averaged.

    Raises:
        UserError: the file is missing, empty, truncated, not audio, or holds non-finite samples.
    """
    try:
        with soundfile.SoundFile(path) as file:
            # libsndfile repairs the header of a cut WAV file silently; only its log tells.
            if "should be" in file.extra_info:
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


def resample(waveform: Waveform, source_rate: int, target_rate: int) -> Waveform:
    """Band-limited resampling of ``[samples]``."""
    if source_rate == target_rate:
        return waveform
    resampled: Waveform = torchaudio.functional.resample(
        torch.from_numpy(waveform), source_rate, target_rate
    ).numpy()
    return resampled


def _unreadable(path: Path, error: Exception) -> UserError:
    if not path.exists():
        return UserError(f"{path}: no such recording; check the root folder and the list that names it")
    if path.is_file() and path.stat().st_size == 0:
        return _unusable(path, "empty recording")
    reason = str(error).strip().splitlines()[0].rstrip(".")
    return _unusable(path, f"cannot read the recording, truncated or damaged ({reason})")


def _unusable(path: Path, problem: str) -> UserError:
    return UserError(f"{path}: {problem}; restore the file or take it off the list")
