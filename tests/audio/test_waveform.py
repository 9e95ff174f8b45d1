"""Reading recordings of every kind, and saying clearly why one cannot be read."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerquant.audio.waveform import read_waveform
from speakerquant.errors import UserError

RATE = 16000


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize("extension", ["wav", "flac"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_any_sample_rate_arrives_as_the_same_tone(tmp_path: Path, extension: str, rate: int) -> None:
    path = tmp_path / f"tone.{extension}"
    soundfile.write(path, tone(rate), rate)
    waveform = read_waveform(path, RATE)
    assert abs(len(waveform) - RATE) <= 1
    inner = slice(1000, 15000)
    assert np.abs(waveform[inner] - tone(RATE)[inner]).max() < 0.01


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left, right = tone(RATE), np.zeros(RATE)
    soundfile.write(path, np.stack([left, right], axis=1), RATE)
    assert np.abs(read_waveform(path, RATE) - left / 2).max() < 1e-3


def _missing(path: Path) -> None:
    pass


def _no_bytes(path: Path) -> None:
    path.touch()


def _no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE)


def _cut(path: Path) -> None:
    soundfile.write(path, tone(RATE), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _not_audio(path: Path) -> None:
    path.write_text("this is a letter, not a recording")


def _nan(path: Path) -> None:
    samples = tone(RATE).astype(np.float32)
    samples[100] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("extension", "spoil", "said"),
    [
        ("wav", _missing, "no such recording"),
        ("wav", _no_bytes, "empty"),
        ("flac", _no_bytes, "empty"),
        ("wav", _no_samples, "empty"),
        ("wav", _cut, "truncated"),
        ("flac", _cut, "truncated"),
        ("wav", _not_audio, "cannot read"),
        ("wav", _nan, "NaN"),
    ],
)
def test_unusable_recording_is_refused_in_one_line_with_its_path(
    tmp_path: Path, extension: str, spoil, said: str
) -> None:
    path = tmp_path / f"recording.{extension}"
    spoil(path)
    with pytest.raises(UserError) as caught:
        read_waveform(path, RATE)
    message = str(caught.value)
    assert said in message
    assert str(path) in message
    assert "\n" not in message
