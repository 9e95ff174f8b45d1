"""Reads recordings: any sample rate and channel count in, mono at one rate out."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
import torchaudio.functional
from numpy.random import Generator

from speakerquant.audio.decoding import Sound, decode, has_open_length, unreadable, unusable
from speakerquant.errors import UserError

Waveform = npt.NDArray[np.float32]

_INAUDIBLE = 2e-4  # peak to peak: 6 steps of 16 bits
_CANCELLED = 0.1  # of a channel's level, which opposite phases leave of it
_LARGEST_KERNEL = 10_000_000  # coefficients
_CLIPPED_SHARE = 0.1  # of the samples at the peak; of a sine it is 0.03


@dataclass(frozen=True)
class ReadWaveform:
    """A recording as networks take it.

    Attributes:
        waveform: Mono ``[samples]`` in [-1, 1].
        stored_rate: Sample rate of the file, in Hz.
        doubt: Why it says little of its speaker although it can be read; none if nothing is wrong.
    """

    waveform: Waveform
    stored_rate: int
    doubt: str | None


def read_waveform(path: Path, sample_rate: int, channel: int | None = None) -> Waveform:
    """Read a whole recording as mono ``[samples]`` in [-1, 1] at ``sample_rate`` Hz.

    Args:
        path: A file of any format that libsndfile or FFmpeg decodes.
        sample_rate: In Hz.
        channel: Which channel, from 1; without it, channels are averaged.

    Raises:
        UserError: the file is missing, empty, truncated, not audio, holds non-finite samples, or lacks the
            channel.
    """
    return inspect_waveform(path, sample_rate, channel).waveform


def inspect_waveform(path: Path, sample_rate: int, channel: int | None = None) -> ReadWaveform:
    """As :func:`read_waveform`, and tell whether the recording is of any use."""
    sound = decode(path)
    if len(sound.samples) == 0:
        raise unusable(path, "empty recording")
    if not np.isfinite(sound.samples).all():
        raise unusable(path, "recording holds NaN or infinite samples")
    mono = _mono(path, sound, channel)
    doubt = doubt_about(mono) or sound.doubt
    if channel is None:
        doubt = _doubt_about_average(sound.samples, mono) or doubt
    return ReadWaveform(resample(mono, sound.sample_rate, sample_rate), sound.sample_rate, doubt)


def _mono(path: Path, sound: Sound, channel: int | None) -> Waveform:
    if channel is None:
        averaged: Waveform = sound.samples.mean(axis=1)
        return averaged
    num_channels = sound.samples.shape[1]
    if not 1 <= channel <= num_channels:
        raise UserError(f"{path}: has no channel {channel}, only {num_channels}; give recordings with it")
    return np.ascontiguousarray(sound.samples[:, channel - 1])


def _doubt_about_average(samples: npt.NDArray[np.float32], mono: Waveform) -> str | None:
    """How channels ``[samples, channels]`` differ from what averaging expects; none if they do not."""
    if samples.shape[1] == 1:
        return None
    heard = np.ptp(samples, axis=0) > _INAUDIBLE
    if heard.any() and mono.std() < _CANCELLED * samples.std(axis=0).max():
        return "its channels cancel each other when averaged"
    if heard.any() and not heard.all():
        silent = int(np.argmin(heard)) + 1
        return f"its channel {silent} is silent, and channels are averaged"
    return None


def doubt_about(mono: Waveform) -> str | None:
    """What makes a readable waveform ``[samples]`` useless; none if nothing does."""
    if np.ptp(mono) <= _INAUDIBLE:
        return "silent throughout" if np.abs(mono).max() <= _INAUDIBLE else "constant throughout"
    level = np.abs(mono)
    if (level >= 0.999 * level.max()).mean() > _CLIPPED_SHARE:
        return "clipped throughout"
    return None


def read_random_part(path: Path, length: int, sample_rate: int, rng: Generator) -> Waveform:
    """Read ``[length]`` samples from a random place of a recording; a shorter recording is repeated.

    Raises:
        UserError: as :func:`read_waveform`.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if _can_be_read_from_the_middle(file, length, sample_rate):
                file.seek(int(rng.integers(file.frames - length + 1)))
                part: Waveform = file.read(length, dtype="float32")
                if len(part) == length and np.isfinite(part).all():
                    return part
    except soundfile.LibsndfileError:
        pass  # reading the whole says what is wrong, or does without libsndfile
    except OSError as error:
        raise unreadable(path, error) from None
    waveform = read_waveform(path, sample_rate)
    waveform = np.tile(waveform, -(-length // len(waveform)))
    start = int(rng.integers(len(waveform) - length + 1))
    return waveform[start : start + length]


def _can_be_read_from_the_middle(file: soundfile.SoundFile, length: int, sample_rate: int) -> bool:
    return bool(
        file.seekable()
        and not has_open_length(file)
        and (file.samplerate, file.channels) == (sample_rate, 1)
        and file.frames > length
    )


def resample(waveform: Waveform, source_rate: int, target_rate: int) -> Waveform:
    """Resample a waveform ``[samples]`` with a band-limiting filter."""
    if source_rate == target_rate:
        return waveform
    shared = math.gcd(source_rate, target_rate)
    up, down = target_rate // shared, source_rate // shared
    if up * down > _LARGEST_KERNEL:  # rates such as 16001 Hz, of which torchaudio's kernel takes gigabytes
        from scipy.signal import resample_poly  # takes time to import, for which only such files wait

        unusual: Waveform = resample_poly(waveform, up, down).astype(np.float32)
        return unusual
    resampled: Waveform = torchaudio.functional.resample(
        torch.from_numpy(waveform), source_rate, target_rate
    ).numpy()
    return resampled
